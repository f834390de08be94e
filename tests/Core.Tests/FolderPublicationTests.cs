using System.Text;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>A result replaces another at once, and nothing else.</summary>
public class FolderPublicationTests
{
    [Fact]
    public async Task A_model_never_lies_beside_the_report_of_another()
    {
        using var folder = new Folder();
        var (to, store) = (Path.Combine(folder.Path, "out"), Store(folder));
        using var ended = new CancellationTokenSource();
        await PublishAsync(folder, store, 0);
        var looking = Task.Run(() =>
        {
            var looks = 0;
            for (; !ended.IsCancellationRequested; looks++)
            {
                var model = File.ReadAllBytes(Path.Combine(to, "model.onnx"));
                var report = File.ReadAllText(Path.Combine(to, "report.json"));
                var again = File.ReadAllBytes(Path.Combine(to, "model.onnx"));
                if (model.AsSpan().SequenceEqual(again))
                    Assert.Contains($"\"after\":{model.Length}", report);
            }
            return looks;
        });
        for (var i = 1; i <= 60; i++)
            await PublishAsync(folder, store, i);
        await ended.CancelAsync();
        Assert.True(await looking > 10);
        Assert.Equal(["model.onnx", "report.json"], Names(to));
        Assert.Equal(["out", "work"], Names(folder.Path));
        Assert.Empty(Names(Path.Combine(folder.Path, "work")));
    }

    [Fact]
    public async Task What_nobody_published_is_kept_under_another_name()
    {
        using var folder = new Folder();
        folder.Write("out/notes.txt", [1]);
        folder.Write("out/model.onnx", [2]);
        folder.Write("out.old-1", [3]);
        await PublishAsync(folder, Store(folder), 1);
        Assert.Equal(["model.onnx", "report.json"], Names(Path.Combine(folder.Path, "out")));
        Assert.Equal(["model.onnx", "notes.txt"], Names(Path.Combine(folder.Path, "out.old-2")));
        Assert.Equal([2], File.ReadAllBytes(Path.Combine(folder.Path, "out.old-2", "model.onnx")));
    }

    [Fact]
    public async Task What_a_killed_publication_left_goes_with_the_next()
    {
        using var folder = new Folder();
        var store = Store(folder);
        await PublishAsync(folder, store, 1);
        var mark = $".serverless-{Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData("out"u8).AsSpan(0, 8))}";
        folder.Write($"{mark}-1a.filling/model.onnx", [1]);
        folder.Write($"{mark}-1b.whole/model.onnx", [1, 2]);
        folder.Write($"{mark}-1b.whole/report.json", Report(2));
        folder.Write($"{mark}-1c.whole/precious.txt", [9]);
        await PublishAsync(folder, store, 2);
        Assert.Equal(["out", "out.old-1", "work"], Names(folder.Path));
        Assert.Equal(["precious.txt"], Names(Path.Combine(folder.Path, "out.old-1")));
        // Two renames, killed between them: the old result comes back before the new one is put in its place.
        Directory.Move(Path.Combine(folder.Path, "out"), Path.Combine(folder.Path, $"{mark}-1d.old"));
        await PublishAsync(folder, store, 3);
        Assert.Equal(["out", "out.old-1", "work"], Names(folder.Path));
        Assert.Contains("\"after\":3", File.ReadAllText(Path.Combine(folder.Path, "out", "report.json")));
    }

    [Fact]
    public void A_folder_that_cannot_be_moved_is_filled_with_its_report_last()
    {
        using var folder = new Folder();
        foreach (var length in new[] { 3, 5 })
        {
            folder.Write("from/model.onnx", new byte[length]);
            folder.Write("from/report.json", Report(length));
            if (length == 3)
                folder.Write("from/model.onnx.data", []);
            Directory.CreateDirectory(Path.Combine(folder.Path, "to"));
            InPlacePublication.Publish(Path.Combine(folder.Path, "from"), Path.Combine(folder.Path, "to"), default);
            Assert.Equal(
                length == 3 ? ["model.onnx", "model.onnx.data", "report.json"] : ["model.onnx", "report.json"],
                Names(Path.Combine(folder.Path, "to"))
            );
            Directory.Delete(Path.Combine(folder.Path, "from"), recursive: true);
        }
        folder.Write("to/notes.txt", [1]);
        folder.Write("from/model.onnx", [1]);
        Assert.Contains(
            "notes.txt",
            Assert
                .Throws<BadInputException>(() =>
                    InPlacePublication.Publish(Path.Combine(folder.Path, "from"), Path.Combine(folder.Path, "to"), default)
                )
                .Message
        );
        Assert.Equal(5, new FileInfo(Path.Combine(folder.Path, "to", "model.onnx")).Length);
    }

    [Fact]
    public async Task The_folder_that_is_replaced_keeps_its_permissions()
    {
        if (OperatingSystem.IsWindows())
            return;
        using var folder = new Folder();
        var to = Directory.CreateDirectory(Path.Combine(folder.Path, "out")).FullName;
        const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.SetGroup;
        File.SetUnixFileMode(to, Mode);
        foreach (var length in new[] { 3, 4 })
        {
            await PublishAsync(folder, Store(folder), length);
            Assert.Equal(Mode, File.GetUnixFileMode(to));
        }
    }

    [Theory]
    [InlineData("notes.txt", "x", "notes.txt")]
    [InlineData("model.onnx", "other", "not the one")]
    [InlineData("report.json", "{}", "no run's")]
    [InlineData("report.json", "[", "no run's")]
    [InlineData("report.json", """{"runId":"r-1","files":[{"name":"model.onnx","bytes":3}]}""", "'recipe.yaml', which changed")]
    [InlineData(
        "report.json",
        """{"runId":"r-1","files":[{"name":"model.onnx","bytes":3},{"name":"recipe.yaml","bytes":2,"sha256":"00"}]}""",
        "'recipe.yaml', which changed"
    )]
    public void A_folder_is_ours_only_as_it_was_published(string file, string text, string why)
    {
        using var folder = new Folder();
        Assert.Null(PublishedFolder.WhyForeign(folder.Path));
        folder.Write("model.onnx", new byte[3]);
        Assert.Contains("without the report", PublishedFolder.WhyForeign(folder.Path));
        folder.Write("recipe.yaml", "v1"u8.ToArray());
        folder.Write("report.json", Report(3));
        Assert.Null(PublishedFolder.WhyForeign(folder.Path));
        folder.Write(file, Encoding.UTF8.GetBytes(text));
        Assert.Contains(why, PublishedFolder.WhyForeign(folder.Path));
    }

    private static FolderStore Store(Folder folder) =>
        new(new Dictionary<string, string> { ["work"] = Path.Combine(folder.Path, "work"), ["out"] = folder.Path });

    private static byte[] Report(int length) => Encoding.UTF8.GetBytes($"{{\"runId\":\"r-1\",\"size\":{{\"after\":{length}}}}}");

    private static async Task PublishAsync(Folder folder, FolderStore store, int length)
    {
        folder.Write("work/a/out/model.onnx", new byte[length]);
        folder.Write("work/a/out/report.json", Report(length));
        await store.PublishAsync("work/a/out", "out/out", default);
        Directory.Delete(Path.Combine(folder.Path, "work", "a"), recursive: true);
    }

    private static IEnumerable<string?> Names(string folder) =>
        Directory.GetFileSystemEntries(folder).Select(Path.GetFileName).Order(StringComparer.Ordinal);
}
