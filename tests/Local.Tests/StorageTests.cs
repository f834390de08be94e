using Azure.Storage.Blobs;
using Serverless.Core;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>The local host on blob storage instead of folders: a real Azurite, the command line in its own process.</summary>
public class StorageTests(Azurite azurite) : IClassFixture<Azurite>
{
    [Fact]
    public async Task A_drop_in_blob_storage_gives_the_bytes_that_a_folder_gives()
    {
        using var folder = new Folder();
        var store = azurite.Store();
        await store.EnsureContainersAsync(["drop"], default);
        foreach (var name in new[] { "digits.onnx", "data.npz" })
            await store.WriteBytesAsync(
                $"drop/digits/{name}",
                await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, name)),
                default
            );
        var done = await CommandLine.RunAsync(folder.Path, "watch", ".", "--storage", azurite.ConnectionString, "--once");
        Assert.True(done.ExitCode == 0, done.Error);
        var blobs = new List<string>();
        await foreach (var a in store.ListAsync("compressed/digits/", default))
            blobs.Add(a.Path);
        Assert.True(blobs.Count == 4, done.Error);
        Assert.Equal(["model.onnx", "recipe.yaml", "report.html", "report.json"], blobs.Select(StorePath.Name));
        var local = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "local");
        Assert.True(local.ExitCode == 0, local.Error);
        Assert.Equal(
            await File.ReadAllBytesAsync(Path.Combine(folder.Path, "local", "model.onnx")),
            await store.ReadBytesAsync(blobs[0], 1 << 20, default)
        );
        // The same drop again is the same run: nothing is done twice.
        var before = (await store.FindAsync(blobs[3], default))!.ETag;
        Assert.Equal(0, (await CommandLine.RunAsync(folder.Path, "watch", ".", "--storage", azurite.ConnectionString, "--once")).ExitCode);
        Assert.Equal(before, (await store.FindAsync(blobs[3], default))!.ETag);
        Assert.Equal(["local"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName));
    }

    [Fact]
    public async Task Two_hosts_on_one_drop_leave_one_result()
    {
        using var one = new Folder();
        using var two = new Folder();
        var service = new BlobServiceClient(azurite.ConnectionString);
        var store = azurite.Store();
        await store.EnsureContainersAsync(["drop"], default);
        await store.WriteBytesAsync(
            "drop/pair.onnx",
            await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, "digits.onnx")),
            default
        );
        var runs = await Task.WhenAll(
            new[] { one, two }.Select(f => CommandLine.RunAsync(f.Path, "watch", ".", "--storage", azurite.ConnectionString, "--once"))
        );
        Assert.All(runs, r => Assert.True(r.ExitCode == 0, r.Error));
        var reports = new List<string>();
        await foreach (var a in store.ListAsync("compressed/pair/", default))
            if (a.Path.EndsWith("report.json", StringComparison.Ordinal))
                reports.Add(a.Path);
        Assert.Single(reports);
        Assert.False(
            await service
                .GetBlobContainerClient("failed")
                .GetBlobsAsync(Azure.Storage.Blobs.Models.BlobTraits.None, Azure.Storage.Blobs.Models.BlobStates.None, "pair/", default)
                .AnyAsync()
        );
    }

    [Theory]
    [InlineData("nonsense")]
    [InlineData("DefaultEndpointsProtocol=http;AccountName=x")]
    public async Task A_wrong_storage_is_one_sentence(string storage)
    {
        using var folder = new Folder();
        var done = await CommandLine.RunAsync(folder.Path, "watch", ".", "--storage", storage, "--once");
        Assert.Equal(2, done.ExitCode);
        Assert.Contains("--storage", done.Sentence);
    }

    [Fact]
    public async Task An_account_that_refuses_is_one_sentence_without_the_key()
    {
        using var folder = new Folder();
        var done = await CommandLine.RunAsync(
            folder.Path,
            "watch",
            ".",
            "--storage",
            azurite.ConnectionString.Replace("AccountKey=Eby8", "AccountKey=Fby8", StringComparison.Ordinal),
            "--once"
        );
        Assert.Equal(2, done.ExitCode);
        Assert.Contains("check its key", done.Sentence);
        Assert.DoesNotContain("Fby8", done.Error);
        Assert.Single(done.Error.Trim().Split('\n'));
    }

    [Fact]
    public async Task A_model_that_lies_too_deep_is_a_candidate_that_says_why_it_is_none()
    {
        var store = azurite.Store();
        var watch = new StorageWatch(azurite.ConnectionString, ".", null);
        await watch.PrepareAsync(default);
        await store.WriteBytesAsync("drop/deep/a/b/m.onnx", new byte[] { 1 }, default);
        await store.WriteBytesAsync("drop/arriving/weights.bin", new byte[] { 1 }, default);
        var candidates = await watch.ListAsync(default);
        var deep = candidates.Single(c => c.Key == "drop/deep");
        Assert.Contains("put it at drop/m.onnx or drop/deep/m.onnx", Assert.Throws<BadInputException>(deep.Open).Message);
        Assert.DoesNotContain(candidates, c => c.Key.Contains("arriving", StringComparison.Ordinal));
        await store.DeleteAsync("drop/deep/a/b/m.onnx", default);
    }
}
