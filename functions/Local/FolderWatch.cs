using System.IO.Enumeration;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>
/// Drops in a folder with the containers <c>drop</c>, <c>work</c>, <c>compressed</c>, <c>failed</c>. Whoever
/// drops something may be anyone: links are not followed out of a drop, and what may not be read is passed over.
/// </summary>
internal sealed class FolderWatch(string folder, string? recipe) : IDropSource
{
    public string Name => folder;

    // The folder itself is known too, so that its path stays out of what is written down.
    public IArtifactStore Results { get; } =
        new FolderStore(RunPaths.Containers.Append(".").ToDictionary(r => r, r => Path.Combine(folder, r)));

    public LocalOptions Options(Drop drop, string runId, long? memory) =>
        new(Path.Combine(folder, "compressed", RunPaths.Name(runId), runId), folder, Path.Combine(folder, "work"), memory);

    public Task PrepareAsync(CancellationToken cancellation)
    {
        foreach (var path in RunPaths.Containers.Select(name => Path.Combine(folder, name)))
        {
            try
            {
                Directory.CreateDirectory(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new BadInputException(
                    $"{path}: the folder cannot be made ({e.Message.Split(" : ")[0].TrimEnd('.')}); "
                        + $"check the place, or watch another folder.",
                    e
                );
            }
            if (path.EndsWith("drop", StringComparison.Ordinal))
                continue;
            FolderPath.RequireWritable(Path.GetFullPath(path), "watch");
        }
        return Task.CompletedTask;
    }

    public Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation) =>
        Task.FromResult<IReadOnlyList<DropCandidate>>([
            .. Paths().Select(p => new DropCandidate(p, State(p), () => Drop.OfWatched(p, recipe))),
        ]);

    private IEnumerable<string> Paths()
    {
        foreach (var root in new[] { Path.Combine(folder, "drop"), folder })
        {
            foreach (var entry in new DirectoryInfo(root).EnumerateFileSystemInfos().OrderBy(e => e.Name, StringComparer.Ordinal))
            {
                var passed = entry.Name.StartsWith('.') || (root == folder && RunPaths.Containers.Contains(entry.Name));
                if (
                    IsFolder(entry)
                        ? !passed && HoldsModel(entry.FullName, deep: root != folder)
                        : IsModel(entry) || (root != folder && !passed && entry.LinkTarget is not null)
                )
                    yield return entry.FullName;
            }
        }
    }

    private static bool IsModel(FileSystemInfo entry) => entry.Name.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase);

    // A link to a folder is none: its target is not looked at.
    private static bool IsFolder(FileSystemInfo entry) => entry is DirectoryInfo { LinkTarget: null };

    // In the place for drops a model that lies too deep, and a folder that may not be looked into, is told of.
    private static bool HoldsModel(string path, bool deep)
    {
        var options = new EnumerationOptions
        {
            MatchCasing = MatchCasing.CaseInsensitive,
            RecurseSubdirectories = deep,
            AttributesToSkip = FileAttributes.ReparsePoint,
            IgnoreInaccessible = false,
        };
        try
        {
            return Directory.EnumerateFiles(path, "*.onnx").Any() || Directory.EnumerateFiles(path, "*.onnx", options).Any();
        }
        catch (UnauthorizedAccessException)
        {
            return deep;
        }
        catch (IOException)
        {
            // It went meanwhile.
            return false;
        }
    }

    // Of a link, what it says: not what its target looks like.
    private static string State(string path)
    {
        try
        {
            return Look(path);
        }
        catch (IOException e)
        {
            // A path in it that is too long for the system, or that went meanwhile: opening it says what it is.
            return e.Message;
        }
    }

    private static string Look(string path)
    {
        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.None };
        var entries =
            FileIdentity.Of(path, follow: false).Kind == FileKind.Folder
                ? new FileSystemEnumerable<FileSystemInfo>(path, (ref FileSystemEntry e) => e.ToFileSystemInfo(), options)
                {
                    ShouldIncludePredicate = (ref FileSystemEntry e) => !e.IsDirectory || (e.Attributes & FileAttributes.ReparsePoint) != 0,
                    ShouldRecursePredicate = (ref FileSystemEntry e) => (e.Attributes & FileAttributes.ReparsePoint) == 0,
                }
                : (IEnumerable<FileSystemInfo>)[new FileInfo(path)];
        return string.Join('|', entries.OrderBy(e => e.FullName, StringComparer.Ordinal).Select(Describe));
    }

    private static string Describe(FileSystemInfo entry) =>
        entry switch
        {
            { LinkTarget: { } target } => $"{entry.FullName}→{target}",
            FileInfo { Exists: true } file => $"{file.FullName}:{FileVersion.Of(file)}",
            _ => entry.FullName,
        };
}
