using Azure;
using Azure.Core;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;
using Azure.Storage.Sas;

namespace Serverless.Core.Storage;

/// <summary>
/// Assembles large ranges of one blob into another within the service (Put Block From URL): what was not compressed,
/// and shards, never pass through this machine. A service that refuses once is not asked again.
/// </summary>
/// <param name="credential">What to authorize the source with; null to sign its URL with the account's key.</param>
internal sealed class ServerSideRanges(TokenCredential? credential)
{
    /// <summary>Smallest range worth a call of its own.</summary>
    public const long Smallest = 4 << 20;

    /// <summary>Largest range of one call; the service allows 4,000 MiB, a time limit less.</summary>
    public const long Largest = 256 << 20;

    private static readonly TimeSpan SourceTime = TimeSpan.FromHours(1);
    private static readonly TokenRequestContext Scope = new(["https://storage.azure.com/.default"]);
    private volatile bool refused;

    /// <summary>Appends a range; false when it must be streamed instead, with nothing of it appended.</summary>
    /// <exception cref="BadInputException">The source is another version by now.</exception>
    public async Task<bool> TryAppendAsync(
        BlockStream blocks,
        BlockBlobClient source,
        Artifact version,
        long offset,
        long length,
        CancellationToken cancellation
    )
    {
        if (refused || length < Smallest || (credential is null && !source.CanGenerateSasUri))
            return false;
        for (long done = 0; done < length; )
        {
            var part = Math.Min(Largest, length - done);
            try
            {
                var range = new HttpRange(offset + done, part);
                await blocks.AppendFromAsync(
                    SourceOf(source),
                    range,
                    OptionsAsync,
                    e => Another(e) || (done == 0 && Refusal(e)),
                    cancellation
                );
            }
            catch (RequestFailedException e) when (Another(e))
            {
                throw BlobStore.Changed(version.Path);
            }
            catch (RequestFailedException e) when (done == 0 && Refusal(e))
            {
                refused = true;
                return false;
            }
            done += part;
        }
        return true;

        async ValueTask<StageBlockFromUriOptions> OptionsAsync(CancellationToken token)
        {
            var options = new StageBlockFromUriOptions
            {
                SourceConditions = new BlobRequestConditions { IfMatch = new ETag(version.ETag) },
            };
            if (credential is null)
                return options;
            options.SourceAuthentication = new HttpAuthorization("Bearer", (await credential.GetTokenAsync(Scope, token)).Token);
            return options;
        }
    }

    private Uri SourceOf(BlockBlobClient source) =>
        credential is null ? source.GenerateSasUri(BlobSasPermissions.Read, DateTimeOffset.UtcNow + SourceTime) : source.Uri;

    private static bool Another(RequestFailedException e) => e.Status is 412 or 416;

    // A source behind a firewall, a missing right, or an emulator without the call.
    private static bool Refusal(RequestFailedException e) => e.Status is 400 or 401 or 403 or 404 or 409 or 501;
}
