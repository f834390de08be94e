using Azure.Storage.Blobs;
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
            await store.WriteBytesAsync($"drop/digits/{name}", await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, name)), default);
        var done = await CommandLine.RunAsync(folder.Path, "watch", ".", "--storage", azurite.ConnectionString, "--once");
        Assert.True(done.ExitCode == 0, done.Error);
        var blobs = new List<string>();
        await foreach (var a in store.ListAsync("compressed/digits/", default)) blobs.Add(a.Path);
        Assert.True(blobs.Count == 4, done.Error);
        Assert.Equal(["model.onnx", "recipe.yaml", "report.html", "report.json"], blobs.Select(StorePath.Name));
        var local = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "local");
        Assert.True(local.ExitCode == 0, local.Error);
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(folder.Path, "local", "model.onnx")), await store.ReadBytesAsync(blobs[0], 1 << 20, default));
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
        await store.WriteBytesAsync("drop/pair.onnx", await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, "digits.onnx")), default);
        var runs = await Task.WhenAll(new[] { one, two }.Select(f => CommandLine.RunAsync(f.Path, "watch", ".", "--storage", azurite.ConnectionString, "--once")));
        Assert.All(runs, r => Assert.True(r.ExitCode == 0, r.Error));
        var reports = new List<string>();
        await foreach (var a in store.ListAsync("compressed/pair/", default)) if (a.Path.EndsWith("report.json", StringComparison.Ordinal)) reports.Add(a.Path);
        Assert.Single(reports);
        Assert.False(await service.GetBlobContainerClient("failed").GetBlobsAsync(Azure.Storage.Blobs.Models.BlobTraits.None, Azure.Storage.Blobs.Models.BlobStates.None, "pair/", default).AnyAsync());
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
}
