using System.CommandLine;
using Serverless.Core;

namespace Serverless.Local;

/// <summary><c>watch FOLDER</c>.</summary>
internal static class WatchCommand
{
    public static Command Build()
    {
        var folder = new Argument<string>("folder")
        {
            Description =
                "Drop models into FOLDER or FOLDER/drop; results appear in FOLDER/compressed/NAME/RUN, failures in "
                + "FOLDER/failed/NAME/RUN. With --storage: where journals are kept.",
        };
        var recipe = new Option<string?>("--recipe") { Description = "The recipe for drops without one." };
        var memory = new Option<string?>("--memory") { Description = MemorySize.About };
        var storage = new Option<string?>("--storage")
        {
            Description =
                "Account URL (signed in by DefaultAzureCredential) or connection string of blob storage: its "
                + "containers drop, work, compressed and failed are used in place of folders.",
        };
        var parallel = new Option<int?>("--parallel");
        parallel.Description = "Drops compressed beside each other (default: as many as there are cores, at most 4).";
        var once = new Option<bool>("--once") { Description = "Stop when all that is there now is done." };
        var verbose = Verbose.Option();
        var command = new Command("watch", "Compress whatever is dropped into a folder or a container.")
        {
            folder,
            recipe,
            memory,
            storage,
            parallel,
            once,
            verbose,
        };
        command.SetAction(
            (parsed, cancellation) =>
                Outcome.OfAsync(async () =>
                {
                    var at = parsed.GetValue(folder)!;
                    if (at.Trim().Length == 0 || at.Contains('\0'))
                        throw new BadInputException($"\"{at}\": names no folder; give the folder to watch.");
                    if (File.Exists(at))
                        throw new BadInputException($"{at}: is a file; give the folder to watch.");
                    if (parsed.GetValue(parallel) is < 1)
                        throw new BadInputException("--parallel: at least one drop is compressed at a time; give a number from 1.");
                    long? budget = parsed.GetValue(memory) is { } m ? MemorySize.Parse(m) : null;
                    IDropSource source = parsed.GetValue(storage) is { } s
                        ? new StorageWatch(s, at, parsed.GetValue(recipe))
                        : new FolderWatch(at, parsed.GetValue(recipe));
                    using var watch = new DropWatch(source, budget, parsed.GetValue(parallel)) { Verbose = parsed.GetValue(verbose) };
                    await watch.RunAsync(parsed.GetValue(once), cancellation);
                    return ExitCode.Done;
                })
        );
        return command;
    }
}
