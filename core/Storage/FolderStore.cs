using System.Runtime.CompilerServices;
using Microsoft.Win32.SafeHandles;

namespace Serverless.Core.Storage;

/// <summary>
/// A store in folders: each container is a directory of its own, so that work and results can share a file system
/// with the place where they end up. Writes go to a temporary name and are renamed.
/// </summary>
/// <param name="containers">Container name to directory.</param>
public sealed class FolderStore(IReadOnlyDictionary<string, string> containers) : IArtifactStore
{
    private readonly Dictionary<string, string> roots =
        containers.ToDictionary(c => c.Key, c => Path.GetFullPath(c.Value), StringComparer.Ordinal);

    /// <summary>The file or directory that a store path stands for.</summary>
    /// <exception cref="BadInputException">The path leaves its container.</exception>
    public string FullPath(string path)
    {
        var slash = path.IndexOf('/');
        var container = slash < 0 ? path : path[..slash];
        if (!roots.TryGetValue(container, out var root)) throw new BadInputException($"{path}: there is no container '{container}'.");
        if (slash < 0) return root;
        var relative = path[(slash + 1)..];
        if (StorePath.WhyUnsafe(relative.TrimEnd('/')) is { } why) throw new BadInputException($"{path}: the path {why}; keep files inside the drop.");
        return Path.Combine(root, relative);
    }

    /// <inheritdoc/>
    public Task<Artifact?> FindAsync(string path, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var info = new FileInfo(FullPath(path));
        return Task.FromResult(info.Exists ? Describe(path, info) : null);
    }

    /// <inheritdoc/>
    public async Task<ArtifactReader> OpenAsync(string path, string? etag, CancellationToken cancellation)
    {
        var artifact = await FindAsync(path, cancellation)
            ?? throw new BadInputException($"{path}: the file does not exist; put it beside the model.");
        if (etag is not null && etag != artifact.ETag)
            throw new BadInputException($"{path}: the file changed while it was being compressed; start again when it is whole.");
        RefuseEscapingLink(path);
        return new Reader(artifact, File.OpenHandle(FullPath(path), FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, FileOptions.Asynchronous));
    }

    /// <inheritdoc/>
    public async Task<Artifact> WriteAsync(string path, Func<Stream, CancellationToken, Task> write, CancellationToken cancellation)
    {
        var target = FullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        var aside = Aside(target);
        try
        {
            await using (var stream = new FileStream(aside, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16, FileOptions.Asynchronous))
            {
                await write(stream, cancellation);
                await stream.FlushAsync(cancellation);
            }
            File.Move(aside, target, overwrite: true);
        }
        catch
        {
            File.Delete(aside);
            throw;
        }
        return Describe(path, new FileInfo(target));
    }

    /// <inheritdoc/>
    public async Task<bool> TryCreateAsync(string path, ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        var target = FullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        var aside = Aside(target);
        try
        {
            await File.WriteAllBytesAsync(aside, bytes, cancellation);
            File.Move(aside, target, overwrite: false);
            return true;
        }
        catch (IOException) when (File.Exists(target))
        {
            return false;
        }
        finally
        {
            File.Delete(aside);
        }
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<Artifact> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellation)
    {
        await Task.CompletedTask;
        var slash = prefix.LastIndexOf('/');
        var folder = slash < 0 ? prefix : prefix[..slash];
        var root = FullPath(folder);
        if (!Directory.Exists(root)) yield break;
        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.None };
        var paths = Directory.EnumerateFiles(root, "*", options)
            .Where(f => !f.EndsWith(".partial", StringComparison.Ordinal))
            .Select(f => $"{folder}/{Path.GetRelativePath(root, f).Replace(Path.DirectorySeparatorChar, '/')}")
            .Where(p => p.StartsWith(prefix, StringComparison.Ordinal))
            .Order(StringComparer.Ordinal);
        foreach (var path in paths)
        {
            cancellation.ThrowIfCancellationRequested();
            var info = new FileInfo(FullPath(path));
            if (info.Exists) yield return Describe(path, info);
        }
    }

    /// <inheritdoc/>
    public Task DeleteAsync(string path, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var full = FullPath(path);
        if (File.Exists(full)) File.Delete(full);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task PublishAsync(string fromPrefix, string toPrefix, CancellationToken cancellation)
    {
        var (from, to) = (FullPath(fromPrefix), FullPath(toPrefix));
        if (!Directory.Exists(from)) return;
        if (!Directory.Exists(to) || !Directory.EnumerateFileSystemEntries(to).Any())
        {
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            try
            {
                if (Directory.Exists(to)) Directory.Delete(to);
                Directory.Move(from, to);
                return;
            }
            catch (IOException) when (!Directory.Exists(to))
            {
                Directory.CreateDirectory(to);
            }
        }
        var names = new List<string>();
        await foreach (var a in ListAsync(fromPrefix + "/", cancellation)) names.Add(a.Path[(fromPrefix.Length + 1)..]);
        foreach (var name in names.OrderBy(n => n == "report.json").ThenBy(n => n, StringComparer.Ordinal))
        {
            var target = Path.Combine(to, name);
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            var aside = target + ".partial";
            File.Move(Path.Combine(from, name), aside, overwrite: true);
            File.Move(aside, target, overwrite: true);
        }
        Directory.Delete(from, recursive: true);
    }

    /// <inheritdoc/>
    public async Task<LocalFolder> MaterializeAsync(string folder, IReadOnlyDictionary<string, string?> files, CancellationToken cancellation)
    {
        foreach (var (name, etag) in files) await using (await OpenAsync($"{folder}/{name}", etag, cancellation)) { }
        return new LocalFolder(FullPath(folder), temporary: false);
    }

    private static string Aside(string target) => $"{target}.{Environment.ProcessId:x}{Guid.NewGuid():N}.partial";

    private void RefuseEscapingLink(string path)
    {
        var root = roots[path[..path.IndexOf('/')]];
        for (var at = FullPath(path); at.Length > root.Length; at = Path.GetDirectoryName(at)!)
        {
            FileSystemInfo info = Directory.Exists(at) ? new DirectoryInfo(at) : new FileInfo(at);
            if (info.LinkTarget is null) continue;
            var target = info.ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? "";
            var inside = target.StartsWith(root + Path.DirectorySeparatorChar, StringComparison.Ordinal);
            // A model dropped as a link is what the user named; what a model names must stay inside.
            if (!inside && !path.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase))
                throw new BadInputException($"{path}: a link leads out of the drop; copy the data into it.");
        }
    }

    private static Artifact Describe(string path, FileInfo info) =>
        new(path, new FileInfo(info.ResolveLinkTarget(true)?.FullName ?? info.FullName).Length, $"{info.Length:x}-{info.LastWriteTimeUtc.Ticks:x}");

    private sealed class Reader(Artifact artifact, SafeFileHandle handle) : ArtifactReader(artifact)
    {
        public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellation)
        {
            while (destination.Length > 0)
            {
                var read = await RandomAccess.ReadAsync(handle, destination, offset, cancellation);
                if (read == 0) throw new EndOfStreamException($"{Artifact.Path} ends at {offset}.");
                offset += read;
                destination = destination[read..];
            }
        }

        public override ValueTask DisposeAsync()
        {
            handle.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
