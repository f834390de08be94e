using System.CommandLine;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Local;

if (args is [ModelProcess.Command, .. var folder])
    return await ModelProcessChild.ServeAsync(folder.FirstOrDefault());
StandardStreams.Guard();
var root = new RootCommand("Serverless: compress ONNX models, on this machine.")
{
    CompressCommand.Build(),
    InspectCommand.Build(),
    UnpackCommand.Build(),
    WatchCommand.Build(),
};

var parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    Console.Error.WriteLine($"{Printable.Line(parsed.Errors[0].Message).TrimEnd('.')}; see '{parsed.CommandResult.Command.Name} --help'.");
    return ExitCode.BadInput;
}
return StandardStreams.Close(await parsed.InvokeAsync());
