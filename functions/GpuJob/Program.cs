using System.CommandLine;
using Serverless.Core;
using Serverless.Core.Execution;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.GpuJob;

if (args is [ModelProcess.Command, .. var folder])
    return await ModelProcessChild.ServeAsync(folder.FirstOrDefault());

// What a queue allows is 7 days; less than 2 seconds would be over before it is renewed.
const int Shortest = 2,
    Longest = 7 * 24 * 3600;
var storage = new Option<string?>("--storage")
{
    Description = "Account URL or connection string (default: the variable SERVERLESS_STORAGE).",
};
var visibility = new Option<int>("--visibility")
{
    Description = "Seconds that a message stays hidden should this job die; renewed while it works.",
    DefaultValueFactory = _ => 120,
};
var memory = new Option<int>("--memory") { Description = "Megabytes that running a model may take.", DefaultValueFactory = _ => 16384 };
var root = new RootCommand("Takes one step from the queue 'gpu-steps', runs it, answers, and exits; what a Container Apps job runs.")
{
    storage,
    visibility,
    memory,
};
root.SetAction(
    async (parsed, cancellation) =>
    {
        try
        {
            var account =
                parsed.GetValue(storage)
                ?? Environment.GetEnvironmentVariable("SERVERLESS_STORAGE")
                ?? throw new BadInputException("SERVERLESS_STORAGE is not set; give the account URL of the storage that holds the queue.");
            if (parsed.GetValue(visibility) is < Shortest or > Longest)
                throw new BadInputException($"--visibility: give {Shortest} to {Longest} seconds.");
            if (parsed.GetValue(memory) <= 0)
                throw new BadInputException("--memory: give a number of megabytes above 0.");
            return await Job.RunAsync(
                account,
                TimeSpan.FromSeconds(parsed.GetValue(visibility)),
                (long)parsed.GetValue(memory) << 20,
                cancellation
            );
        }
        catch (Exception e) when (e is BadInputException or StorageRefusedException)
        {
            Console.Error.WriteLine(e.Message);
            return 2;
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("Stopped; the step is for the next job to take.");
            return 1;
        }
        catch (Exception e) when (e is IOException || Environment.GetEnvironmentVariable("SERVERLESS_TRACE") is null)
        {
            var kind = e is IOException ? "" : e.GetType().Name + ": ";
            Console.Error.WriteLine($"{kind}{SecretText.Cut(e.Message.Split('\n')[0])} The step is for the next job to take.");
            return 1;
        }
    }
);
Console.Error.WriteLine($"ONNX Runtime runs models on: {ExecutionDevice.Name}.");
return await root.Parse(args).InvokeAsync();
