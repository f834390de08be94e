using System.CommandLine;

namespace Serverless.Local;

/// <summary><c>watch FOLDER</c>.</summary>
internal static class WatchCommand
{
    public static Command Build()
    {
        var folder = new Argument<string>("folder") { Description = "Drop models into FOLDER or FOLDER/drop; results appear in FOLDER/compressed/NAME/RUN, failures in FOLDER/failed/NAME/RUN." };
        var recipe = new Option<string?>("--recipe") { Description = "The recipe for drops without one." };
        var memory = new Option<string?>("--memory") { Description = "Memory to use, as 512MB or 2GB." };
        var once = new Option<bool>("--once") { Description = "Stop when all that is there now is done." };
        var command = new Command("watch", "Compress whatever is dropped into a folder.") { folder, recipe, memory, once };
        command.SetAction((parsed, cancellation) => Outcome.OfAsync(async () =>
        {
            long? budget = parsed.GetValue(memory) is { } m ? MemorySize.Parse(m) : null;
            var watch = new FolderWatch(parsed.GetValue(folder)!, parsed.GetValue(recipe), budget);
            await watch.RunAsync(parsed.GetValue(once), cancellation);
            return ExitCode.Done;
        }));
        return command;
    }
}
