using Azure.Core;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

public class BlobStoreTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;
    private static readonly NetworkOptions Quick = new()
    {
        FirstPause = TimeSpan.FromMilliseconds(5),
        LongestPause = TimeSpan.FromMilliseconds(50),
        BreakDuration = TimeSpan.FromMilliseconds(500),
    };

    [Fact]
    public async Task What_is_written_in_blocks_is_read_by_range()
    {
        var store = await NewAsync("blocks");
        var bytes = new byte[(BlockStream.BlockSize * 2) + 12345];
        new Random(1).NextBytes(bytes);
        var written = await store.WriteAsync(
            "blocks/a/b.bin",
            async (stream, token) =>
            {
                for (var at = 0; at < bytes.Length; at += 70_001)
                    await stream.WriteAsync(bytes.AsMemory(at, Math.Min(70_001, bytes.Length - at)), token);
            },
            None
        );
        Assert.Equal(bytes.Length, written.Length);
        Assert.Equal(written, await store.FindAsync("blocks/a/b.bin", None));
        await using var reader = await store.OpenAsync("blocks/a/b.bin", written.ETag, None);
        foreach (var (offset, length) in new[] { (0, 1), (BlockStream.BlockSize - 3, 9), (bytes.Length - 5, 5), (100, 3_000_000) })
        {
            var part = new byte[length];
            await reader.ReadAsync(offset, part, None);
            Assert.True(part.AsSpan().SequenceEqual(bytes.AsSpan(offset, length)));
        }
        await Assert.ThrowsAsync<EndOfStreamException>(async () => await reader.ReadAsync(bytes.Length - 1, new byte[2], None));
        using var folder = await store.MaterializeAsync("blocks/a", new Dictionary<string, string?> { ["b.bin"] = written.ETag }, None);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(Path.Combine(folder.Path, "b.bin"), None));
    }

    [Fact]
    public async Task A_write_that_fails_leaves_nothing_and_an_overwritten_blob_is_noticed()
    {
        var store = await NewAsync("whole");
        await Assert.ThrowsAsync<InvalidOperationException>(() =>
            store.WriteAsync(
                "whole/x",
                async (stream, token) =>
                {
                    await stream.WriteAsync(new byte[BlockStream.BlockSize + 1], token);
                    throw new InvalidOperationException();
                },
                None
            )
        );
        Assert.Null(await store.FindAsync("whole/x", None));
        var first = await store.WriteBytesAsync("whole/y", new byte[] { 1, 2, 3 }, None);
        await using var reader = await store.OpenAsync("whole/y", first.ETag, None);
        await store.WriteBytesAsync("whole/y", new byte[] { 4, 5, 6 }, None);
        Assert.Contains(
            "changed",
            (await Assert.ThrowsAsync<BadInputException>(async () => await reader.ReadAsync(0, new byte[3], None))).Message
        );
        await Assert.ThrowsAsync<BadInputException>(() => store.OpenAsync("whole/y", first.ETag, None));
        await Assert.ThrowsAsync<BadInputException>(() => store.OpenAsync("whole/../y", null, None));
    }

    [Fact]
    public async Task Publishing_moves_everything_with_the_report_last()
    {
        var store = await NewAsync("publish");
        foreach (var name in new[] { "model.onnx", "report.json", "recipe.yaml" })
            await store.WriteBytesAsync($"publish/from/{name}", System.Text.Encoding.UTF8.GetBytes(name), None);
        await store.WriteBytesAsync("publish/to/model.onnx", new byte[] { 1 }, None);
        await store.PublishAsync("publish/from", "publish/to", None);
        var left = new List<string>();
        await foreach (var a in store.ListAsync("publish/", None))
            left.Add(a.Path);
        Assert.Equal(["publish/to/model.onnx", "publish/to/recipe.yaml", "publish/to/report.json"], left);
        Assert.Equal("model.onnx"u8.ToArray(), await store.ReadBytesAsync("publish/to/model.onnx", 100, None));
    }

    [Fact]
    public async Task One_call_in_ten_may_fail_and_everything_still_arrives()
    {
        _ = await NewAsync("faults");
        var faults = new Faults(0.1);
        var store = azurite.Store(o => o.AddPolicy(faults, HttpPipelinePosition.PerRetry), Quick);
        var bytes = new byte[BlockStream.BlockSize * 3];
        new Random(2).NextBytes(bytes);
        for (var i = 0; i < 10; i++)
        {
            await store.WriteAsync($"faults/{i}", async (stream, token) => await stream.WriteAsync(bytes, token), None);
            var read = await store.ReadBytesAsync($"faults/{i}", bytes.Length, None);
            Assert.True(bytes.AsSpan().SequenceEqual(read));
        }
        Assert.True(faults.Injected > 3, $"{faults.Injected} faults");
    }

    private async Task<BlobStore> NewAsync(string container)
    {
        var store = azurite.Store(network: Quick);
        await store.EnsureContainersAsync([container], None);
        return store;
    }
}
