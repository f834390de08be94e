using System.Runtime.CompilerServices;
using Azure;
using Azure.Core;
using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;

namespace Serverless.Core.Storage;

/// <summary>
/// A store in Azure Blob Storage: each container of a path is a blob container. Reads are conditional on the version
/// opened; writes are staged in blocks and committed at the end, so a blob appears whole or not at all.
/// </summary>
public sealed class BlobStore : IArtifactStore
{
    internal static readonly TimeSpan Limitless = TimeSpan.FromDays(1);
    private readonly BlobServiceClient service;
    private readonly StorageCalls calls;
    private readonly ServerSideRanges ranges;
    private readonly SeenBlobs seen = new();

    /// <summary>Wraps a client whose own retries are off.</summary>
    /// <param name="service">The client.</param>
    /// <param name="options">How the network is dealt with, or null for the defaults.</param>
    /// <param name="credential">What <paramref name="service"/> authorizes with; null when that is the account's key.</param>
    public BlobStore(BlobServiceClient service, NetworkOptions? options = null, TokenCredential? credential = null)
    {
        this.service = service;
        calls = new StorageCalls(NetworkResilience.Build(options ?? new NetworkOptions()), service.Uri);
        ranges = new ServerSideRanges(credential);
    }

    /// <summary>
    /// Connects by account URL with the default Azure credential, or by connection string (for development).
    /// </summary>
    /// <exception cref="BadInputException">It is neither.</exception>
    public static BlobStore Connect(string storage, NetworkOptions? options = null) =>
        StorageAccount.Connect(
            storage,
            (url, credential) => new BlobStore(new BlobServiceClient(url, credential, ClientOptions()), options, credential),
            text => new BlobStore(new BlobServiceClient(text, ClientOptions()), options)
        );

    /// <summary>Client options with the SDK's retries off; <see cref="NetworkResilience"/> retries instead.</summary>
    public static BlobClientOptions ClientOptions()
    {
        var options = new BlobClientOptions();
        options.Retry.MaxRetries = 0;
        // The limit is NetworkOptions.AttemptTimeout; the client's own would end a call as cancelled.
        options.Retry.NetworkTimeout = Limitless;
        return options;
    }

    /// <summary>Creates containers that are not there yet.</summary>
    public async Task EnsureContainersAsync(IEnumerable<string> names, CancellationToken cancellation)
    {
        foreach (var name in names)
            await calls.ExecuteAsync(
                token => service.GetBlobContainerClient(name).CreateIfNotExistsAsync(cancellationToken: token),
                cancellation,
                name
            );
    }

    /// <summary>Holds a lock blob, made when it is not there, until the result is disposed.</summary>
    /// <param name="path">The blob.</param>
    /// <param name="waiting">Called once when another holds it.</param>
    /// <param name="cancellation">Cancels the wait.</param>
    public async Task<BlobLease> LeaseAsync(string path, Action waiting, CancellationToken cancellation)
    {
        await TryCreateAsync(path, ReadOnlyMemory<byte>.Empty, cancellation);
        return await BlobLease.TakeAsync(Blob(path), calls, waiting, cancellation);
    }

    /// <inheritdoc/>
    public async Task<Artifact?> FindAsync(string path, CancellationToken cancellation)
    {
        try
        {
            var found = await CallAsync(path, (blob, token) => blob.GetPropertiesAsync(cancellationToken: token), cancellation, Absent);
            return seen.Note(new Artifact(path, found.Value.ContentLength, Tag(found.Value.ETag)));
        }
        catch (RequestFailedException e) when (Absent(e))
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public async Task<ArtifactReader> OpenAsync(string path, string? etag, CancellationToken cancellation)
    {
        if (etag is null && seen.Kept(path) is { } kept)
            return kept;
        var blob = Blob(path);
        if (etag is not null && seen.Find(path, etag) is { } known)
            return new BlobReader(known, blob, calls, ranges);
        if (await BlobReader.OpenAsync(path, etag, blob, calls, ranges, cancellation) is { } reader)
        {
            seen.Note(reader.Artifact);
            await seen.KeepAsync(reader, cancellation);
            return reader;
        }
        var empty = await FindAsync(path, cancellation) ?? throw Missing(path);
        return etag is null || etag == empty.ETag ? new BlobReader(empty, blob, calls, ranges) : throw Changed(path);
    }

    /// <inheritdoc/>
    public async Task<Artifact> WriteAsync(string path, Func<Stream, CancellationToken, Task> write, CancellationToken cancellation)
    {
        await using var stream = new BlockStream(Blob(path), calls, cancellation);
        await write(stream, cancellation);
        var etag = await stream.CommitAsync(cancellation);
        return seen.Note(new Artifact(path, stream.Length, Tag(etag)));
    }

    /// <inheritdoc/>
    public async Task<bool> TryCreateAsync(string path, ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        var id = Guid.NewGuid().ToString("N");
        var options = new BlobUploadOptions
        {
            Conditions = new BlobRequestConditions { IfNoneMatch = ETag.All },
            Metadata = new Dictionary<string, string> { ["writer"] = id },
        };
        try
        {
            await CallAsync(
                path,
                (blob, token) => blob.UploadAsync(BinaryData.FromBytes(bytes).ToStream(), options, token),
                cancellation,
                IsThere
            );
            return true;
        }
        catch (RequestFailedException e) when (IsThere(e))
        {
            // An attempt whose answer was lost may have been ours.
            return await WriterAsync(path, cancellation) == id;
        }

        static bool IsThere(RequestFailedException e) => e.Status is 409 or 412 && e.ErrorCode != "ContainerBeingDeleted";
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<Artifact> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellation)
    {
        var (container, name) = Split(prefix);
        string? next = null;
        do
        {
            var page = await calls.ExecuteAsync(
                async token =>
                {
                    await foreach (
                        var p in service
                            .GetBlobContainerClient(container)
                            .GetBlobsAsync(new GetBlobsOptions { Prefix = name }, token)
                            .AsPages(next)
                    )
                        return p;
                    return null;
                },
                cancellation,
                container
            );
            foreach (var blob in page?.Values ?? [])
                yield return new Artifact(
                    $"{container}/{blob.Name}",
                    blob.Properties.ContentLength ?? 0,
                    Tag(blob.Properties.ETag ?? default)
                );
            next = page?.ContinuationToken;
        } while (!string.IsNullOrEmpty(next));
    }

    /// <inheritdoc/>
    public async Task DeleteAsync(string path, CancellationToken cancellation) =>
        await CallAsync(path, (blob, token) => blob.DeleteIfExistsAsync(cancellationToken: token), cancellation);

    /// <inheritdoc/>
    public async Task PublishAsync(string fromPrefix, string toPrefix, CancellationToken cancellation)
    {
        var names = new List<string>();
        await foreach (var a in ListAsync(fromPrefix + "/", cancellation))
            names.Add(a.Path[(fromPrefix.Length + 1)..]);
        foreach (var name in names.OrderBy(n => n == "report.json").ThenBy(n => n, StringComparer.Ordinal))
        {
            var (from, to) = ($"{fromPrefix}/{name}", $"{toPrefix}/{name}");
            await BlobCopy.CopyAsync(this, calls, Blob(from), from, Blob(to), to, cancellation);
        }
        foreach (var name in names)
            await DeleteAsync($"{fromPrefix}/{name}", cancellation);
    }

    /// <inheritdoc/>
    public async Task<LocalFolder> MaterializeAsync(
        string folder,
        IReadOnlyDictionary<string, string?> files,
        CancellationToken cancellation
    )
    {
        var local = new LocalFolder(Directory.CreateTempSubdirectory("serverless-").FullName, temporary: true);
        try
        {
            foreach (var (name, etag) in files)
            {
                if (StorePath.WhyUnsafe(name) is { } why)
                    throw new BadInputException($"{folder}/{name}: the path {why}; keep files inside the drop.");
                var target = Path.Combine(local.Path, name);
                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                await using var reader = await OpenAsync($"{folder}/{name}", etag, cancellation);
                await using var file = new FileStream(
                    target,
                    FileMode.CreateNew,
                    FileAccess.Write,
                    FileShare.None,
                    1 << 16,
                    FileOptions.Asynchronous
                );
                await reader.CopyToAsync(0, reader.Artifact.Length, file, cancellation);
            }
            return local;
        }
        catch
        {
            local.Dispose();
            throw;
        }
    }

    internal static BadInputException Changed(string path) =>
        new($"{path}: the blob changed while it was being compressed; start again when it is whole.");

    // What a run has written can be made again; what was dropped cannot.
    internal static Exception Missing(string path) =>
        path.StartsWith(ChecksummedStore.Container + "/", StringComparison.Ordinal)
            ? new DamagedWorkException($"{path} is missing.")
            : new BadInputException($"{path}: the blob does not exist; put it beside the model.");

    private BlockBlobClient Blob(string path)
    {
        var (container, name) = Split(path);
        if (StorePath.WhyUnsafe(name) is { } why)
            throw new BadInputException($"{path}: the path {why}; keep blobs inside the drop.");
        return service.GetBlobContainerClient(container).GetBlockBlobClient(name);
    }

    // Listings give tags without the quotes that headers have.
    internal static string Tag(ETag etag) => etag.ToString().Trim('"');

    private async Task<string?> WriterAsync(string path, CancellationToken cancellation)
    {
        try
        {
            var found = await CallAsync(path, (blob, token) => blob.GetPropertiesAsync(cancellationToken: token), cancellation, Absent);
            return found.Value.Metadata.TryGetValue("writer", out var writer) ? writer : null;
        }
        catch (RequestFailedException e) when (Absent(e))
        {
            // Another made it and deleted it again.
            return null;
        }
    }

    private Task<T> CallAsync<T>(
        string path,
        Func<BlockBlobClient, CancellationToken, Task<T>> call,
        CancellationToken cancellation,
        Func<RequestFailedException, bool>? mine = null
    )
    {
        var blob = Blob(path);
        return calls.ExecuteAsync(token => call(blob, token), cancellation, blob.BlobContainerName, mine);
    }

    private static bool Absent(RequestFailedException e) => e.Status == 404;

    private static (string Container, string Name) Split(string path) =>
        path.IndexOf('/') is var i and >= 0 ? (path[..i], path[(i + 1)..]) : (path, "");
}
