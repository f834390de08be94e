using System.CommandLine;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Spectre.Console;

namespace Serverless.Local;

/// <summary><c>unpack MODEL|FOLDER</c>: a result of <c>store: small</c> for runtimes that do not fold constants.</summary>
internal static class UnpackCommand
{
    public static Command Build()
    {
        var model = new Argument<string>("model") { Description = "An .onnx file, or a folder that holds one." };
        var output = new Option<string>("--out")
        {
            Description = "Folder for the result, which must not exist or be empty.",
            Required = true,
        };
        var command = new Command("unpack", "Write a model whose weights are coded at their entropy with plain codes.") { model, output };
        command.SetAction(
            (parsed, cancellation) =>
                Outcome.OfAsync(async () =>
                {
                    var drop = Drop.Of(parsed.GetValue(model)!, null, null);
                    var target = FolderPath.Of(parsed.GetValue(output)!, "--out");
                    FolderPath.RequireWritable(target, "--out");
                    if (Directory.Exists(target) && Directory.EnumerateFileSystemEntries(target).Any())
                        throw new BadInputException($"--out {target}: holds files already; give a folder that does not.");
                    return await drop.RunAsync(async () =>
                    {
                        var store = drop.Source.With(("out", Path.GetDirectoryName(target)!)).Open();
                        var (made, aside) = ($"out/{Path.GetFileName(target)}", $"out/.{Path.GetFileName(target)}.partial");
                        var unpacked = await UnpackedModel.WriteAsync(store, drop.Model, aside, cancellation);
                        await store.PublishAsync(aside, made, cancellation);
                        AnsiConsole.WriteLine(
                            $"{unpacked.Constants} constants decoded: {ByteCount.Text(unpacked.BytesBefore)} → {ByteCount.Text(unpacked.BytesAfter)}"
                        );
                        AnsiConsole.WriteLine(Path.Combine(target, ModelWriter.ModelName));
                        return ExitCode.Done;
                    });
                })
        );
        return command;
    }
}
