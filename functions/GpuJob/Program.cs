using System.CommandLine;
using Serverless.Core;
using Serverless.Core.Evaluation;
using Serverless.Core.Pipeline;
using Serverless.GpuJob;

if (args is [ModelProcess.Command]) return await ModelProcessChild.ServeAsync();

var storage = new Option<string?>("--storage") { Description = "Account URL or connection string (default: the variable SERVERLESS_STORAGE)." };
var visibility = new Option<int>("--visibility") { Description = "Seconds that a message stays hidden should this job die; renewed while it works.", DefaultValueFactory = _ => 120 };
var memory = new Option<int>("--memory") { Description = "Megabytes that running a model may take.", DefaultValueFactory = _ => 16384 };
var root = new RootCommand("Takes one step from the queue 'gpu-steps', runs it, answers, and exits; what a Container Apps job runs.") { storage, visibility, memory };
root.SetAction(async (parsed, cancellation) =>
{
    try
    {
        var account = parsed.GetValue(storage) ?? Environment.GetEnvironmentVariable("SERVERLESS_STORAGE")
            ?? throw new BadInputException("SERVERLESS_STORAGE is not set; give the account URL of the storage that holds the queue.");
        return await Job.RunAsync(account, TimeSpan.FromSeconds(parsed.GetValue(visibility)), (long)parsed.GetValue(memory) << 20, cancellation);
    }
    catch (BadInputException e)
    {
        Console.Error.WriteLine(e.Message);
        return 2;
    }
    catch (OperationCanceledException)
    {
        Console.Error.WriteLine("Stopped; the step is for the next job to take.");
        return 1;
    }
    catch (Exception e) when (Retries.MayPass(e))
    {
        Console.Error.WriteLine($"The storage did not answer: {e.Message.Split('\n')[0]}");
        return 1;
    }
});
Console.Error.WriteLine($"ONNX Runtime runs models on: {ExecutionDevice.Name}.");
return await root.Parse(args).InvokeAsync();
