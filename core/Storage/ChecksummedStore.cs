using System.Collections.Concurrent;
using System.Runtime.CompilerServices;

namespace Serverless.Core.Storage;

/// <summary>
/// Keeps a checksum of every object in the container of work, under <c>.sums</c> beside the run's objects, and verifies an object
/// when it is opened (once a version and process). A power cut, a full disk or a careless hand shows as
/// <see cref="DamagedWorkException"/>, never as another model.
/// </summary>
/// <param name="inner">Where the objects are.</param>
public sealed class ChecksummedStore(IArtifactStore inner) : IArtifactStore
{
    /// <summary>The container whose objects are checked.</summary>
    public const string Container = "work";

    /// <summary>Name of the folder of checksums in a run's work.</summary>
    public const string Sums = ".sums";

    private const string Suffix = ".sum",
        Events = "events";
    private readonly ConcurrentDictionary<string, string> verified = new(StringComparer.Ordinal);

    /// <summary>The store that holds the objects.</summary>
    public IArtifactStore Inner => inner;

    /// <inheritdoc/>
    /// <exception cref="DamagedWorkException">It was written, and is gone.</exception>
    public async Task<Artifact?> FindAsync(string path, CancellationToken cancellation)
    {
        var found = await inner.FindAsync(path, cancellation);
        if (found is null && Sum(path) is { } sum && await inner.FindAsync(sum, cancellation) is not null)
            throw Missing(path);
        return found;
    }

    /// <inheritdoc/>
    /// <exception cref="DamagedWorkException">An object of the work is not as it was written.</exception>
    public async Task<ArtifactReader> OpenAsync(string path, string? etag, CancellationToken cancellation)
    {
        if (Sum(path) is not { } sum)
            return await inner.OpenAsync(path, etag, cancellation);
        var reader = await ReaderAsync(path, cancellation);
        try
        {
            await VerifyAsync(path, sum, reader, cancellation);
            return reader;
        }
        catch
        {
            await reader.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task<Artifact> WriteAsync(string path, Func<Stream, CancellationToken, Task> write, CancellationToken cancellation)
    {
        if (Sum(path) is not { } sum)
            return await inner.WriteAsync(path, write, cancellation);
        Checksum? checksum = null;
        var written = await inner.WriteAsync(
            path,
            async (stream, token) =>
            {
                await using var hashing = new HashingStream(stream);
                await write(hashing, token);
                checksum = hashing.Checksum;
            },
            cancellation
        );
        await inner.WriteBytesAsync(sum, checksum!.ToBytes(), cancellation);
        verified[path] = written.ETag;
        return written;
    }

    /// <inheritdoc/>
    public async Task<bool> TryCreateAsync(string path, ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        if (!await inner.TryCreateAsync(path, bytes, cancellation))
            return false;
        if (Sum(path) is { } sum)
            await inner.WriteBytesAsync(sum, Checksum.Of(bytes.Span).ToBytes(), cancellation);
        return true;
    }

    /// <inheritdoc/>
    /// <exception cref="DamagedWorkException">An object of the work was written, and is gone.</exception>
    public async IAsyncEnumerable<Artifact> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var missing = new HashSet<string>(StringComparer.Ordinal);
        if (Sum(prefix) is { } sums)
        {
            var folder = sums[..^Suffix.Length];
            await foreach (var a in inner.ListAsync(folder, cancellation))
                missing.Add(prefix + a.Path[folder.Length..^Suffix.Length]);
        }
        var found = new List<Artifact>();
        await foreach (var a in inner.ListAsync(prefix, cancellation))
            found.Add(a);
        missing.ExceptWith(found.Select(a => a.Path));
        if (missing.Count > 0)
            throw Missing(missing.Order(StringComparer.Ordinal).First());
        foreach (var a in found)
            yield return a;
    }

    /// <inheritdoc/>
    public async Task DeleteAsync(string path, CancellationToken cancellation)
    {
        if (Sum(path) is { } sum)
            await inner.DeleteAsync(sum, cancellation);
        await inner.DeleteAsync(path, cancellation);
    }

    /// <inheritdoc/>
    /// <exception cref="DamagedWorkException">An object to publish is not as it was written.</exception>
    public async Task PublishAsync(string fromPrefix, string toPrefix, CancellationToken cancellation)
    {
        var paths = new List<string>();
        await foreach (var a in ListAsync(fromPrefix + "/", cancellation))
            paths.Add(a.Path);
        foreach (var path in paths)
            await (await OpenAsync(path, null, cancellation)).DisposeAsync();
        await inner.PublishAsync(fromPrefix, toPrefix, cancellation);
        foreach (var path in paths)
            if (Sum(path) is { } sum)
                await inner.DeleteAsync(sum, cancellation);
    }

    /// <inheritdoc/>
    /// <exception cref="DamagedWorkException">An object of the work is not as it was written.</exception>
    public async Task<LocalFolder> MaterializeAsync(
        string folder,
        IReadOnlyDictionary<string, string?> files,
        CancellationToken cancellation
    )
    {
        foreach (var (name, etag) in files)
            if (Sum($"{folder}/{name}") is not null)
                await (await OpenAsync($"{folder}/{name}", etag, cancellation)).DisposeAsync();
        return await inner.MaterializeAsync(folder, files, cancellation);
    }

    // A link, a pipe or a folder in an object's place is damage too.
    private async Task<ArtifactReader> ReaderAsync(string path, CancellationToken cancellation)
    {
        try
        {
            return await inner.FindAsync(path, cancellation) is null
                ? throw Missing(path)
                : await inner.OpenAsync(path, null, cancellation);
        }
        catch (BadInputException e)
        {
            throw new DamagedWorkException(e.Message);
        }
    }

    private async Task VerifyAsync(string path, string sum, ArtifactReader reader, CancellationToken cancellation)
    {
        if (verified.TryGetValue(path, out var known) && known == reader.Artifact.ETag)
            return;
        if (await inner.FindAsync(sum, cancellation) is not { Length: <= Checksum.Longest })
            throw new DamagedWorkException($"{path} has no checksum.");
        if (Checksum.Parse(await inner.ReadBytesAsync(sum, Checksum.Longest, cancellation)) is not { } expected)
            throw new DamagedWorkException($"{path}: its checksum is damaged.");
        if (expected.Length != reader.Artifact.Length)
            throw new DamagedWorkException($"{path} has {reader.Artifact.Length} of {expected.Length} bytes.");
        if (await Checksum.OfAsync(reader, cancellation) != expected)
            throw new DamagedWorkException($"{path}: its bytes are not those that were written.");
        verified[path] = reader.Artifact.ETag;
    }

    private static DamagedWorkException Missing(string path) => new($"{path} is missing.");

    // work/RUN/NAME → work/RUN/.sums/NAME.sum, so that folders hold nothing but their objects. Events come from outside.
    private static string? Sum(string path) =>
        path.Split('/', 3) switch
        {
            [Container, var name] => $"{Container}/{Sums}/{name}{Suffix}",
            [Container, _, var rest] when rest.StartsWith(Events + "/", StringComparison.Ordinal) => null,
            [Container, Sums, _] => null,
            [Container, var run, var rest] => $"{Container}/{run}/{Sums}/{rest}{Suffix}",
            _ => null,
        };
}
