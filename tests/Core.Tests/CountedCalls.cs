using System.Collections.Concurrent;
using System.Text.RegularExpressions;
using Azure.Core;
using Azure.Core.Pipeline;

namespace Serverless.TestSupport;

/// <summary>Counts calls to the storage, by method and kind of object.</summary>
public sealed partial class CountedCalls : HttpPipelinePolicy
{
    private readonly ConcurrentDictionary<string, int> kinds = new(StringComparer.Ordinal);

    public int Total => kinds.Values.Sum();

    public void Clear() => kinds.Clear();

    public override string ToString() => string.Join('\n', kinds.OrderByDescending(k => k.Value).Select(k => $"{k.Value, 6} {k.Key}"));

    public override void Process(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
    {
        Count(message.Request);
        ProcessNext(message, pipeline);
    }

    public override ValueTask ProcessAsync(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
    {
        Count(message.Request);
        return ProcessNextAsync(message, pipeline);
    }

    // Objects of a kind differ in numbers and hashes alone.
    private void Count(Request request)
    {
        var path = Uri.UnescapeDataString(request.Uri.Path[(request.Uri.Path.IndexOf('/', 1) + 1)..]);
        kinds.AddOrUpdate($"{request.Method} {Hashes().Replace(path, "*")}", 1, (_, n) => n + 1);
    }

    [GeneratedRegex("[0-9a-f]{12,}|[0-9]{3,}|(?<=wide-)[0-9a-f]+")]
    private static partial Regex Hashes();
}
