using System.Text;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>What ended a wait: a version of the event's file, or its time.</summary>
/// <param name="ETag">The version; empty when the time was over.</param>
/// <param name="Payload">The event, in JSON; null when the time was over.</param>
internal sealed record TakenEvent(string ETag, string? Payload);

/// <summary>
/// The file that brings an event. Whoever writes it may be in the middle of it, so only a version that is JSON and
/// did not change while it was read is taken; one that stays broken is told of once.
/// </summary>
/// <param name="store">The store it is in.</param>
/// <param name="path">Its path.</param>
/// <param name="say">Told what is wrong with it.</param>
internal sealed class EventFile(IArtifactStore store, string path, Action<string> say)
{
    private const long Largest = 1 << 20;
    private string? broken,
        told;

    /// <summary>The event, or null while there is none that is whole.</summary>
    /// <param name="taken">Versions that were taken before.</param>
    /// <param name="cancellation">Cancels the read.</param>
    public async Task<TakenEvent?> ReadAsync(IReadOnlyCollection<string> taken, CancellationToken cancellation)
    {
        if (await store.FindAsync(path, cancellation) is not { } there || taken.Contains(there.ETag))
            return null;
        var text = there.Length <= Largest ? await TextAsync(there, cancellation) : "";
        if (text is null || await ChangedAsync(there, cancellation))
            return null;
        if (IsJson(text))
            return new TakenEvent(there.ETag, text);
        if (broken == there.ETag && told != broken)
        {
            say($"{path}: the event is not JSON of at most {Largest >> 20} MB; write it again.");
            told = broken;
        }
        broken = there.ETag;
        return null;
    }

    // Null for what went or changed since it was found, or is held by whoever writes it.
    private async Task<string?> TextAsync(Artifact there, CancellationToken cancellation)
    {
        try
        {
            return Encoding.UTF8.GetString(await store.ReadBytesAsync(path, Largest, cancellation, there.ETag));
        }
        catch (IOException)
        {
            return null;
        }
        catch (BadInputException)
        {
            if (await ChangedAsync(there, cancellation))
                return null;
            throw;
        }
    }

    private async Task<bool> ChangedAsync(Artifact since, CancellationToken cancellation) =>
        (await store.FindAsync(path, cancellation))?.ETag != since.ETag;

    private static bool IsJson(string text)
    {
        try
        {
            using var document = JsonDocument.Parse(text);
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }
}
