using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Onnx;
using Serverless.Core.Pipeline;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>
/// Watches a folder laid out as DESIGN.md has it: <c>drop</c>, <c>work</c>, <c>compressed</c>, <c>failed</c>. A drop
/// begins when its files have stopped growing and the model is whole; one that stays broken is reported as failed.
/// </summary>
internal sealed class FolderWatch(string folder, string? recipe, long? memory)
{
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly string[] Reserved = ["drop", "work", "compressed", "failed"];
    private readonly Dictionary<string, (string State, DateTime Since)> seen = new(StringComparer.Ordinal);
    private readonly HashSet<string> finished = new(StringComparer.Ordinal);

    /// <summary>Watches until cancelled; with <paramref name="once"/>, until everything there is done.</summary>
    public async Task RunAsync(bool once, CancellationToken cancellation)
    {
        if (File.Exists(folder)) throw new BadInputException($"{folder}: is a file; give the folder to watch.");
        foreach (var name in Reserved) Directory.CreateDirectory(Path.Combine(folder, name));
        Console.Error.WriteLine($"Watching {folder}; Ctrl-C stops.");
        while (true)
        {
            var waiting = false;
            foreach (var path in Candidates())
            {
                var state = State(path);
                if (finished.Contains($"{path}|{state}")) continue;
                if (!seen.TryGetValue(path, out var last) || last.State != state)
                {
                    seen[path] = (state, DateTime.UtcNow);
                    waiting = true;
                    continue;
                }
                if (await TakeAsync(path, DateTime.UtcNow - last.Since > Patience, cancellation)) finished.Add($"{path}|{state}");
                else waiting = true;
            }
            if (once && !waiting) return;
            await Task.Delay(Poll, cancellation);
        }
    }

    private IEnumerable<string> Candidates()
    {
        foreach (var root in new[] { Path.Combine(folder, "drop"), folder })
        {
            foreach (var file in Directory.EnumerateFiles(root, "*.onnx").Order(StringComparer.Ordinal)) yield return file;
            foreach (var inner in Directory.EnumerateDirectories(root).Order(StringComparer.Ordinal))
            {
                var name = Path.GetFileName(inner);
                if (name.StartsWith('.') || (root == folder && Reserved.Contains(name))) continue;
                if (Directory.EnumerateFiles(inner, "*.onnx").Any()) yield return inner;
            }
        }
    }

    private static string State(string path)
    {
        var files = Directory.Exists(path) ? new DirectoryInfo(path).GetFiles("*", SearchOption.AllDirectories) : [new FileInfo(path)];
        return string.Join('|', files.OrderBy(f => f.FullName, StringComparer.Ordinal).Select(f => $"{f.FullName}:{f.Length}:{f.LastWriteTimeUtc.Ticks}"));
    }

    // True when the drop is done with, one way or the other; false when it should be looked at again.
    private async Task<bool> TakeAsync(string path, bool patienceOver, CancellationToken cancellation)
    {
        Drop drop;
        string runId;
        try
        {
            drop = Drop.Of(path, Directory.Exists(path) && File.Exists(Path.Combine(path, "recipe.yaml")) ? null : recipe, null);
            var store = new FolderStore(drop.Containers);
            var index = await ModelIndexer.IndexAsync(store, drop.Model, cancellation);
            runId = await drop.RunIdAsync(store, index.Files.Values.Select(f => f.Path), cancellation);
        }
        catch (Exception e) when (e is BadInputException or IOException or UnauthorizedAccessException)
        {
            if (!patienceOver) return false;
            var name = Path.GetFileNameWithoutExtension(path);
            await FailAsync(name, RunNames.Id(name, [new Artifact(path, 0, State(path))]), path, e.Message, cancellation);
            return true;
        }
        var output = Path.Combine(folder, "compressed", drop.Name, runId);
        if (File.Exists(Path.Combine(output, "report.json")) || File.Exists(Path.Combine(folder, "failed", drop.Name, runId, "error.json"))) return true;
        try
        {
            var options = new LocalOptions(output, folder, Path.Combine(folder, "work"), memory);
            var result = await RunDisplay.RunAsync(display => RunDrop.RunAsync(drop, options, display.Show, display.Say, cancellation));
            CompressCommand.Print(drop.Name, result);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // One bad drop must not end the watch: it is written down and the next one taken.
            await FailAsync(drop.Name, runId, path, e.Message, cancellation);
        }
        return true;
    }

    private async Task FailAsync(string name, string runId, string path, string error, CancellationToken cancellation)
    {
        Console.Error.WriteLine(error);
        var store = new FolderStore(new Dictionary<string, string> { ["failed"] = Path.Combine(folder, "failed") });
        var body = JsonSerializer.SerializeToUtf8Bytes(new { status = "failed", runId, model = path, error }, Json.Indented);
        await store.WriteBytesAsync($"failed/{name}/{runId}/error.json", body, cancellation);
    }
}
