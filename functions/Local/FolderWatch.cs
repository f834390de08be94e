using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Drops in a folder laid out as DESIGN.md has it: <c>drop</c>, <c>work</c>, <c>compressed</c>, <c>failed</c>.</summary>
internal sealed class FolderWatch(string folder, string? recipe) : IDropSource
{
    private static readonly string[] Reserved = ["drop", "work", "compressed", "failed"];

    public string Name => folder;

    public IArtifactStore Results { get; } = new FolderStore(Reserved.ToDictionary(r => r, r => Path.Combine(folder, r)));

    public LocalOptions Options(Drop drop, string runId, long? memory) =>
        new(Path.Combine(folder, "compressed", drop.Name, runId), folder, Path.Combine(folder, "work"), memory);

    public Task PrepareAsync(CancellationToken cancellation)
    {
        foreach (var name in Reserved) Directory.CreateDirectory(Path.Combine(folder, name));
        return Task.CompletedTask;
    }

    public Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation) =>
        Task.FromResult<IReadOnlyList<DropCandidate>>([.. Paths().Select(p => new DropCandidate(p, State(p), () => Drop.Of(p, File.Exists(Path.Combine(p, "recipe.yaml")) ? null : recipe, null)))]);

    private IEnumerable<string> Paths()
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
}
