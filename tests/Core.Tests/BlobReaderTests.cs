using Azure.Core;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Reads of blobs give their bytes, and take few calls.</summary>
public class BlobReaderTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly CountedCalls calls = new();

    [Theory]
    [InlineData(0, 2)]
    [InlineData(1, 1)]
    [InlineData(BlobReader.Whole, 1)]
    [InlineData(BlobReader.Whole + 1, 2)]
    public async Task A_small_blob_is_one_call(int length, int expected)
    {
        var (writer, reader) = (await StoreAsync("small"), azurite.Store(o => o.AddPolicy(calls, HttpPipelinePosition.PerRetry)));
        var bytes = Bytes(length);
        await writer.WriteBytesAsync($"small/{length}", bytes, None);
        calls.Clear();
        Assert.Equal(bytes, await reader.ReadBytesAsync($"small/{length}", length, None));
        // Of an empty blob no range can be asked; then its properties are.
        Assert.Equal(expected, calls.Total);
    }

    [Fact]
    public async Task Small_reads_in_order_are_fetched_ahead_and_reads_here_and_there_are_not()
    {
        var store = await StoreAsync("ahead");
        var bytes = Bytes(24 << 20);
        var etag = (await store.WriteBytesAsync("ahead/large", bytes, None)).ETag;
        calls.Clear();
        await using (var reader = await store.OpenAsync("ahead/large", etag, None))
            for (var at = 0; at + 10_000 <= bytes.Length; at += 10_100)
                await CheckAsync(reader, at, 10_000);
        Assert.True(calls.Total < 20, $"{calls}");
        calls.Clear();
        await using (var reader = await store.OpenAsync("ahead/large", etag, None))
        {
            var random = new Random(2);
            for (var i = 0; i < 200; i++)
                await CheckAsync(reader, random.Next(bytes.Length - 100_000), random.Next(1, 100_000));
        }
        Assert.InRange(calls.Total, 1, 200);

        async Task CheckAsync(ArtifactReader reader, int at, int count)
        {
            var part = new byte[count];
            await reader.ReadAsync(at, part, None);
            Assert.True(part.AsSpan().SequenceEqual(bytes.AsSpan(at, count)), $"{count} bytes at {at}");
        }
    }

    [Fact]
    public async Task A_version_that_was_seen_is_opened_without_a_call_and_another_is_noticed()
    {
        var store = await StoreAsync("versions");
        var first = await store.WriteBytesAsync("versions/a", Bytes(100), None);
        calls.Clear();
        await using (var reader = await store.OpenAsync("versions/a", first.ETag, None))
            Assert.Equal(0, calls.Total);
        await azurite.Store().WriteBytesAsync("versions/a", Bytes(50), None);
        await using (var reader = await store.OpenAsync("versions/a", first.ETag, None))
            await Assert.ThrowsAsync<BadInputException>(async () => await reader.ReadAsync(0, new byte[1], None));
        await Assert.ThrowsAsync<BadInputException>(() => azurite.Store().OpenAsync("versions/a", first.ETag, None));
        await Assert.ThrowsAsync<BadInputException>(() => store.OpenAsync("versions/b", null, None));
    }

    [Fact]
    public async Task A_small_shard_is_read_once_by_a_process()
    {
        var store = await StoreAsync("work");
        await store.WriteBytesAsync($"{StorePath.Shards}/0123.bin", Bytes(1000), None);
        calls.Clear();
        for (var i = 0; i < 3; i++)
            Assert.Equal(Bytes(1000), await store.ReadBytesAsync($"{StorePath.Shards}/0123.bin", 1000, None));
        Assert.Equal(1, calls.Total);
        // Damaged, say, and made anew.
        await store.WriteBytesAsync($"{StorePath.Shards}/0123.bin", Bytes(500), None);
        Assert.Equal(Bytes(500), await store.ReadBytesAsync($"{StorePath.Shards}/0123.bin", 1000, None));
    }

    private static byte[] Bytes(int length)
    {
        var bytes = new byte[length];
        new Random(1).NextBytes(bytes);
        return bytes;
    }

    private async Task<BlobStore> StoreAsync(string container)
    {
        var store = azurite.Store(o => o.AddPolicy(calls, HttpPipelinePosition.PerRetry));
        await store.EnsureContainersAsync([container], None);
        return store;
    }
}
