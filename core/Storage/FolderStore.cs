using System.Collections.Concurrent;
using System.IO.Enumeration;
using System.Runtime.CompilerServices;
using Microsoft.Win32.SafeHandles;

namespace Serverless.Core.Storage;

/// <summary>
/// A store in folders: each container is a directory of its own, so that work and results can share a file system
/// with the place where they end up. Writes go to a temporary name and are renamed.
/// </summary>
/// <param name="containers">Container name to directory.</param>
/// <param name="followed">Store paths that the user named himself: a link there may lead out of its container.</param>
public sealed class FolderStore(IReadOnlyDictionary<string, string> containers, IReadOnlyCollection<string>? followed = null)
    : IArtifactStore
{
    private readonly Dictionary<string, string> roots = containers.ToDictionary(
        c => c.Key,
        c => Path.GetFullPath(c.Value),
        StringComparer.Ordinal
    );

    private readonly ConcurrentDictionary<string, string> realRoots = new(StringComparer.Ordinal);

    /// <summary>Container name to its directory, absolute.</summary>
    public IReadOnlyDictionary<string, string> Roots => roots;

    /// <summary>The file or directory that a store path stands for.</summary>
    /// <exception cref="BadInputException">The path leaves its container.</exception>
    public string FullPath(string path)
    {
        var slash = path.IndexOf('/');
        var container = slash < 0 ? path : path[..slash];
        if (!roots.TryGetValue(container, out var root))
            throw new BadInputException($"{path}: there is no container '{container}'.");
        if (slash < 0)
            return root;
        var relative = path[(slash + 1)..];
        if (StorePath.WhyUnsafe(relative.TrimEnd('/')) is { } why)
            throw new BadInputException($"{path}: the path {why}; rename the file, and keep it inside the drop.");
        return Path.Combine(root, relative);
    }

    /// <inheritdoc/>
    public Task<Artifact?> FindAsync(string path, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(Describe(path, Located(path) ?? throw RegularFile.LeadsOut(path)));
    }

    /// <inheritdoc/>
    public async Task<ArtifactReader> OpenAsync(string path, string? etag, CancellationToken cancellation)
    {
        var artifact =
            await FindAsync(path, cancellation)
            ?? throw new BadInputException($"{path}: the file does not exist; put it beside the model.");
        if (etag is not null && etag != artifact.ETag)
            throw new BadInputException($"{path}: the file changed while it was being compressed; start again when it is whole.");
        var file = Located(path) ?? throw RegularFile.LeadsOut(path);
        return new Reader(artifact, RegularFile.Open(file, path, IsFollowed(path) ? null : RealRoot(Container(path))));
    }

    /// <inheritdoc/>
    public async Task<Artifact> WriteAsync(string path, Func<Stream, CancellationToken, Task> write, CancellationToken cancellation)
    {
        var target = FullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        var aside = Aside(target);
        try
        {
            await using (
                var stream = new FileStream(aside, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16, FileOptions.Asynchronous)
            )
            {
                await write(stream, cancellation);
                await stream.FlushAsync(cancellation);
            }
            Put(aside, target, Container(path));
        }
        catch (ArgumentOutOfRangeException e) when (e.ParamName == "value")
        {
            // .NET's word for EFBIG.
            File.Delete(aside);
            throw new IOException($"{path}: the file is larger than the file system or the limit of the process allows (ulimit -f)", e);
        }
        catch (IOException e) when (e.HResult == Posix.ENOSPC && !OperatingSystem.IsWindows())
        {
            File.Delete(aside);
            throw new IOException($"{path}: no space is left on the device of {Path.GetDirectoryName(target)}", e);
        }
        catch
        {
            File.Delete(aside);
            throw;
        }
        return Describe(path, target)!;
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
        if (!Directory.Exists(root))
            yield break;
        var paths = FilesBelow(root)
            .Where(f => !f.EndsWith(".partial", StringComparison.Ordinal))
            .Select(f => $"{folder}/{Path.GetRelativePath(root, f).Replace(Path.DirectorySeparatorChar, '/')}")
            .Where(p => p.StartsWith(prefix, StringComparison.Ordinal))
            .Order(StringComparer.Ordinal);
        foreach (var path in paths)
        {
            cancellation.ThrowIfCancellationRequested();
            // Nobody can name these, so nobody can ask for them either.
            if (StorePath.WhyUnsafe(path) is not null)
                continue;
            if (Listed(path) is { } artifact)
                yield return artifact;
        }
    }

    /// <inheritdoc/>
    public Task DeleteAsync(string path, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var full = FullPath(path);
        if (File.Exists(full))
            File.Delete(full);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task PublishAsync(string fromPrefix, string toPrefix, CancellationToken cancellation)
    {
        var (from, to) = (FullPath(fromPrefix), FullPath(toPrefix));
        if (Directory.Exists(from))
            await Task.Run(() => FolderPublication.Publish(from, to, cancellation), cancellation);
    }

    /// <inheritdoc/>
    public async Task<LocalFolder> MaterializeAsync(
        string folder,
        IReadOnlyDictionary<string, string?> files,
        CancellationToken cancellation
    )
    {
        foreach (var (name, etag) in files)
            await using (await OpenAsync($"{folder}/{name}", etag, cancellation)) { }
        return new LocalFolder(FullPath(folder), temporary: false);
    }

    // A folder in the place of an object of the work is damage.
    private static void Put(string aside, string target, string container)
    {
        if (container == "work" && FileIdentity.Of(target, follow: false).Kind == FileKind.Folder)
            Directory.Delete(target, recursive: true);
        File.Move(aside, target, overwrite: true);
    }

    // Beside the target, under a name that fits a file system however long the target's is.
    private static string Aside(string target)
    {
        var mark = $".{Environment.ProcessId:x}{Guid.NewGuid():N}.partial";
        return Path.Combine(
            Path.GetDirectoryName(target)!,
            StorePath.Cut(Path.GetFileName(target), StorePath.LongestName - mark.Length) + mark
        );
    }

    private static string Container(string path) => path.IndexOf('/') is var slash and >= 0 ? path[..slash] : path;

    // Found out once: it is there by the time that something is opened in it.
    private string RealRoot(string container) => realRoots.GetOrAdd(container, c => FileIdentity.RealPath(roots[c]));

    private bool IsFollowed(string path) => followed?.Contains(path) == true;

    // The file that a path stands for, its links followed; null when one leads out of the container.
    private string? Located(string path)
    {
        var full = FullPath(path);
        if (IsFollowed(path))
            return FileIdentity.RealPath(full);
        var container = Container(path);
        return container.Length == path.Length ? full : InsideLinks.Resolve(roots[container], path[(container.Length + 1)..], path);
    }

    // What may not be read is not listed; whoever names it is told why.
    private Artifact? Listed(string path)
    {
        try
        {
            return Located(path) is { } file && FileIdentity.Of(file).Kind == FileKind.Regular ? Describe(path, file) : null;
        }
        catch (BadInputException)
        {
            return null;
        }
    }

    // Folders that are links are not gone into: what they lead to has a path of its own, or is outside.
    private static FileSystemEnumerable<string> FilesBelow(string root) =>
        new(
            root,
            (ref FileSystemEntry e) => e.ToFullPath(),
            new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.None }
        )
        {
            ShouldIncludePredicate = (ref FileSystemEntry e) => !e.IsDirectory,
            ShouldRecursePredicate = (ref FileSystemEntry e) => (e.Attributes & FileAttributes.ReparsePoint) == 0,
        };

    private static Artifact? Describe(string path, string file)
    {
        var found = FileIdentity.Of(file);
        if (found.Kind == FileKind.Special || found.Loops || found.Error == Posix.EACCES)
            RegularFile.Require(found, path);
        var info = new FileInfo(file);
        return info.Exists ? new Artifact(path, info.Length, FileVersion.Of(info)) : null;
    }

    private sealed class Reader(Artifact artifact, SafeFileHandle handle) : ArtifactReader(artifact)
    {
        public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellation)
        {
            while (destination.Length > 0)
            {
                var read = await RandomAccess.ReadAsync(handle, destination, offset, cancellation);
                if (read == 0)
                    throw new EndOfStreamException($"{Artifact.Path} ends at {offset}.");
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
