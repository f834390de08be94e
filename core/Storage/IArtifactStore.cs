using System.Buffers;

namespace Serverless.Core.Storage;

/// <summary>A stored object: its path (<c>container/name</c>), length in bytes and version tag.</summary>
public sealed record Artifact(string Path, long Length, string ETag);

/// <summary>
/// Where models, shards and reports live. Paths are <c>container/relative/name</c> with forward slashes.
/// A write is whole or absent: readers never see a partial object.
/// </summary>
public interface IArtifactStore
{
    /// <summary>The object at <paramref name="path"/>, or null.</summary>
    Task<Artifact?> FindAsync(string path, CancellationToken cancellation);

    /// <summary>
    /// Opens an object for ranged reads of one version of it.
    /// </summary>
    /// <param name="path">The object.</param>
    /// <param name="etag">The version expected, or null for whatever is there.</param>
    /// <param name="cancellation">Cancels the call.</param>
    /// <exception cref="BadInputException">Missing, or another version than <paramref name="etag"/>.</exception>
    Task<ArtifactReader> OpenAsync(string path, string? etag, CancellationToken cancellation);

    /// <summary>Streams a new object into place; nothing appears when <paramref name="write"/> throws.</summary>
    Task<Artifact> WriteAsync(string path, Func<Stream, CancellationToken, Task> write, CancellationToken cancellation);

    /// <summary>Writes an object unless there is one already; false when there is: of many writers one wins.</summary>
    Task<bool> TryCreateAsync(string path, ReadOnlyMemory<byte> bytes, CancellationToken cancellation);

    /// <summary>All objects whose path starts with <paramref name="prefix"/>, ordered by path (ordinal).</summary>
    IAsyncEnumerable<Artifact> ListAsync(string prefix, CancellationToken cancellation);

    /// <summary>Deletes an object; deleting what is absent is no error.</summary>
    Task DeleteAsync(string path, CancellationToken cancellation);

    /// <summary>
    /// Makes every object under one prefix appear under another, replacing what is there. Files are moved in the
    /// order of their names with <c>report.json</c> last: its presence says that the rest is whole.
    /// </summary>
    Task PublishAsync(string fromPrefix, string toPrefix, CancellationToken cancellation);

    /// <summary>
    /// A folder on this machine in which the named objects can be opened as files under their names relative to
    /// <paramref name="folder"/>, for native code that needs a file. Disposing it removes what was copied.
    /// </summary>
    /// <param name="folder">The folder.</param>
    /// <param name="files">Name → the version expected, or null for whatever is there.</param>
    /// <param name="cancellation">Cancels the copy.</param>
    /// <exception cref="BadInputException">Missing, or another version than expected.</exception>
    Task<LocalFolder> MaterializeAsync(string folder, IReadOnlyDictionary<string, string?> files, CancellationToken cancellation);
}

/// <summary>Ranged reads of one version of one object, one read at a time.</summary>
public abstract class ArtifactReader(Artifact artifact) : IAsyncDisposable
{
    /// <summary>Bytes that a reader holds at most, beyond those that are asked for.</summary>
    public const int MostHeld = 4 << 20;

    private const int LongestRead = 4 << 20;

    /// <summary>The version that is read.</summary>
    public Artifact Artifact { get; } = artifact;

    /// <summary>Fills <paramref name="destination"/> from <paramref name="offset"/>.</summary>
    /// <exception cref="EndOfStreamException">The range reaches past the end.</exception>
    public abstract ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellation);

    /// <summary>Shows the whole of it, piece by piece.</summary>
    /// <param name="see">Called with each piece, in order; the memory is valid for the call.</param>
    /// <param name="cancellation">Cancels the reads.</param>
    public async Task ScanAsync(Action<ReadOnlySpan<byte>> see, CancellationToken cancellation)
    {
        var buffer = ArrayPool<byte>.Shared.Rent((int)Math.Clamp(Artifact.Length, 1, LongestRead));
        try
        {
            for (long at = 0; at < Artifact.Length; )
            {
                var chunk = buffer.AsMemory(0, (int)Math.Min(buffer.Length, Artifact.Length - at));
                await ReadAsync(at, chunk, cancellation);
                see(chunk.Span);
                at += chunk.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Writes a range of it to a stream.</summary>
    /// <exception cref="EndOfStreamException">The range reaches past the end.</exception>
    public virtual async Task CopyToAsync(long offset, long length, Stream output, CancellationToken cancellation)
    {
        var buffer = ArrayPool<byte>.Shared.Rent((int)Math.Clamp(length, 1, LongestRead));
        try
        {
            for (long done = 0; done < length; )
            {
                var chunk = buffer.AsMemory(0, (int)Math.Min(buffer.Length, length - done));
                await ReadAsync(offset + done, chunk, cancellation);
                await output.WriteAsync(chunk, cancellation);
                done += chunk.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}

/// <summary>A folder holding local files of stored objects; disposing it deletes the folder when it was made for this.</summary>
public sealed class LocalFolder(string path, bool temporary) : IDisposable
{
    /// <summary>Full path of the folder.</summary>
    public string Path { get; } = path;

    /// <inheritdoc/>
    public void Dispose()
    {
        if (temporary)
            Directory.Delete(Path, recursive: true);
    }
}
