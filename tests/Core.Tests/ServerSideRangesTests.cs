using Azure;
using Azure.Core;
using Azure.Core.Pipeline;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>
/// Put Block From URL. Azurite has not got the call, which is the fallback's test; for the call itself a policy does in
/// the client what the service would: reads the signed URL, with its range and its condition, and stages that.
/// </summary>
public class ServerSideRangesTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Ranges_of_a_blob_are_assembled_into_another(bool served)
    {
        var service = new Service(served);
        var store = azurite.Store(o => o.AddPolicy(service, HttpPipelinePosition.PerCall));
        await store.EnsureContainersAsync(["assembly"], None);
        var bytes = new byte[20 << 20];
        new Random(4).NextBytes(bytes);
        var source = await store.WriteBytesAsync($"assembly/{served}/source", bytes, None);
        await using var reader = await store.OpenAsync(source.Path, source.ETag, None);
        (int From, int Length)[] parts = [(5, 12 << 20), (1, 100), (3 << 20, 17 << 20)];
        await store.WriteAsync(
            $"assembly/{served}/target",
            async (stream, token) =>
            {
                foreach (var (from, length) in parts)
                {
                    await stream.WriteAsync(new byte[] { 1, 2, 3 }, token);
                    await reader.CopyToAsync(from, length, stream, token);
                }
            },
            None
        );
        byte[] expected = [.. parts.SelectMany(p => (byte[])[1, 2, 3, .. bytes.AsSpan(p.From, p.Length)])];
        var written = await store.ReadBytesAsync($"assembly/{served}/target", expected.Length, None);
        Assert.True(expected.AsSpan().SequenceEqual(written));
        Assert.Equal(served ? 2 : 1, service.Asked);
    }

    [Fact]
    public async Task A_source_that_changed_is_not_mixed_in()
    {
        var store = azurite.Store(o => o.AddPolicy(new Service(true), HttpPipelinePosition.PerCall));
        await store.EnsureContainersAsync(["assembly"], None);
        var source = await store.WriteBytesAsync("assembly/changing", new byte[8 << 20], None);
        await using var reader = await store.OpenAsync(source.Path, source.ETag, None);
        await store.WriteBytesAsync(source.Path, new byte[8 << 20], None);
        var failure = await Assert.ThrowsAsync<BadInputException>(() =>
            store.WriteAsync("assembly/mixed", (stream, token) => reader.CopyToAsync(0, 8 << 20, stream, token), None)
        );
        Assert.Contains("changed", failure.Message);
        Assert.Null(await store.FindAsync("assembly/mixed", None));
    }

    private sealed class Service(bool served) : HttpPipelinePolicy
    {
        private static readonly HttpClient Http = new();

        public int Asked { get; private set; }

        public override async ValueTask ProcessAsync(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
        {
            var headers = message.Request.Headers;
            if (headers.TryGetValue("x-ms-copy-source", out var from) && headers.TryGetValue("x-ms-source-range", out var range))
            {
                Asked++;
                if (served)
                {
                    using var read = new HttpRequestMessage(HttpMethod.Get, from);
                    read.Headers.Add("x-ms-range", range);
                    if (headers.TryGetValue("x-ms-source-if-match", out var match))
                        read.Headers.TryAddWithoutValidation("If-Match", match);
                    using var response = await Http.SendAsync(read, message.CancellationToken);
                    if (!response.IsSuccessStatusCode)
                        throw new RequestFailedException((int)response.StatusCode, $"the source says {response.ReasonPhrase}");
                    foreach (
                        var name in headers
                            .Select(h => h.Name)
                            .Where(n => n.StartsWith("x-ms-source-", StringComparison.Ordinal) || n == "x-ms-copy-source")
                            .ToList()
                    )
                        headers.Remove(name);
                    var bytes = await response.Content.ReadAsByteArrayAsync(message.CancellationToken);
                    message.Request.Content = RequestContent.Create(bytes);
                    headers.SetValue("Content-Length", $"{bytes.Length}");
                }
            }
            await ProcessNextAsync(message, pipeline);
        }

        public override void Process(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline) => ProcessNext(message, pipeline);
    }
}
