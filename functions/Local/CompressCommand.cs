using System.CommandLine;

namespace Serverless.Local;

/// <summary><c>compress MODEL|FOLDER</c>.</summary>
internal static class CompressCommand
{
    public static Command Build()
    {
        var model = new Argument<string>("model")
        {
            Description = "An .onnx file, or a folder that holds one with its external data, and optionally recipe.yaml and data.npz.",
        };
        var recipe = new Option<string?>("--recipe")
        {
            Description = "The recipe (default: recipe.yaml of the folder, else the preset int8).",
        };
        var data = new Option<string?>("--data")
        {
            Description = "An .npz of arrays named like the model's inputs, first axis = sample, 'labels' optional.",
        };
        var output = new Option<string?>("--out") { Description = "Folder for the result (default: compressed/NAME/RUN)." };
        var work = new Option<string?>("--work")
        {
            Description = "Folder for intermediate files, kept: layers that did not change are taken from it next time.",
        };
        var force = new Option<bool>("--force");
        force.Description =
            "Replace an --out folder that holds something else; what it holds is kept as DIR.old-1. The original is never touched.";
        var noEvaluate = new Option<bool>("--no-evaluate");
        noEvaluate.Description = "Do not compare the result with the original: faster, and nobody has run what is published.";
        var memory = new Option<string?>("--memory") { Description = MemorySize.About };
        var verbose = Verbose.Option();
        var command = new Command("compress", "Compress a model; the original is never changed.")
        {
            model,
            recipe,
            data,
            output,
            work,
            memory,
            force,
            noEvaluate,
            verbose,
        };
        command.SetAction(
            (parsed, cancellation) =>
                Outcome.OfAsync(async () =>
                {
                    var drop = Drop.Of(parsed.GetValue(model)!, parsed.GetValue(recipe), parsed.GetValue(data));
                    long? budget = parsed.GetValue(memory) is { } m ? MemorySize.Parse(m) : null;
                    var options = new LocalOptions(parsed.GetValue(output), Directory.GetCurrentDirectory(), parsed.GetValue(work), budget)
                    {
                        Force = parsed.GetValue(force),
                        Evaluates = !parsed.GetValue(noEvaluate),
                    };
                    return await drop.RunAsync(async () =>
                    {
                        var result = await RunDisplay.RunAsync(
                            display => RunDrop.RunAsync(drop, options, display.Show, display.Say, cancellation),
                            parsed.GetValue(verbose)
                        );
                        ResultTable.Print(drop, result);
                        StandardStreams.TellIfLost($"the result is in {result.Run.Output}");
                        return result.ExitCode;
                    });
                })
        );
        return command;
    }
}
