using Azure;
using Azure.Core;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>A content that is given up for another while its blocks are on their way.</summary>
public class BlockStreamTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;
    private static readonly NetworkOptions Quick = new()
    {
        MaxAttempts = 2,
        FirstPause = TimeSpan.FromMilliseconds(1),
        LongestPause = TimeSpan.FromMilliseconds(2),
    };

    [Fact]
    public async Task A_late_block_of_a_content_given_up_does_not_get_into_its_successor()
    {
        var asked = 0;
        // The first block is held back until the second content's block is there.
        var second = new TaskCompletionSource();
        var store = await StoreAsync(async m =>
        {
            if (!m.Request.Uri.Query.Contains("comp=block&", StringComparison.Ordinal))
                return;
            if (Interlocked.Increment(ref asked) > 1)
                second.TrySetResult();
            else
            {
                await second.Task.WaitAsync(TimeSpan.FromSeconds(20), None);
                await Task.Delay(300, None);
            }
        });
        var (old, kept) = (new byte[BlockStream.BlockSize], new byte[BlockStream.BlockSize + 7]);
        Array.Fill(old, (byte)0xAA);
        Array.Fill(kept, (byte)0xBB);
        await store.WriteAsync(
            "again/late",
            async (stream, token) =>
            {
                await stream.WriteAsync(old, token);
                stream.SetLength(0);
                await stream.WriteAsync(kept, token);
            },
            None
        );
        Assert.Equal(kept, await store.ReadBytesAsync("again/late", 1 << 26, None));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(6)]
    public async Task A_content_given_up_may_fail_without_harm_to_its_successor(int times)
    {
        var failing = true;
        var store = await StoreAsync(m =>
            failing && m.Request.Uri.Query.Contains("comp=block&", StringComparison.Ordinal)
                ? throw new RequestFailedException(400, "refused")
                : Task.CompletedTask
        );
        var bytes = new byte[BlockStream.BlockSize + 5];
        new Random(7).NextBytes(bytes);
        await store.WriteAsync(
            "again/failed",
            async (stream, token) =>
            {
                for (var i = 0; i < times; i++)
                {
                    await Assert.ThrowsAsync<IOException>(async () =>
                    {
                        while (true)
                            await stream.WriteAsync(bytes, token);
                    });
                    stream.SetLength(0);
                }
                failing = false;
                await stream.WriteAsync(bytes, token);
            },
            None
        );
        Assert.Equal(bytes, await store.ReadBytesAsync("again/failed", 1 << 26, None));
    }

    private async Task<BlobStore> StoreAsync(Func<HttpMessage, Task> before)
    {
        var store = azurite.Store(o => o.AddPolicy(new Intercept(before), HttpPipelinePosition.PerRetry), Quick);
        await store.EnsureContainersAsync(["again"], None);
        return store;
    }
}
