using System.Security.Cryptography;
using System.Text;
using Serverless.Core;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>What a run may write to, decided before anything is done; the original is not among it.</summary>
public class RunFoldersTests
{
    [Fact]
    public async Task The_original_is_never_replaced()
    {
        using var folder = new Folder();
        var drop = Drop(folder);
        folder.Write("D/recipe.yaml", "version: 1\npreset: int8\n"u8.ToArray());
        folder.Write("D/notes.txt", [1]);
        Directory.CreateSymbolicLink(Path.Combine(folder.Path, "link"), drop);
        var before = Hash(drop);
        foreach (var args in new string[][] { ["compress", "D", "--out", "D"], ["compress", "D/model.onnx", "--out", "link", "--force"] })
        {
            var done = await CommandLine.RunAsync(folder.Path, args);
            Assert.Equal(2, done.ExitCode);
            Assert.Contains("the original is never replaced; give --out", done.Sentence);
            Assert.Contains("D-2", done.Sentence);
            Assert.DoesNotContain("Inspect", done.Error);
        }
        Assert.Equal(before, Hash(drop));
        Assert.Equal(["D", "link"], Names(folder.Path));
    }

    [Fact]
    public async Task A_folder_of_something_else_is_refused_or_kept()
    {
        using var folder = new Folder();
        Drop(folder);
        folder.Write("out/notes.txt", [1]);
        var refused = await CommandLine.RunAsync(folder.Path, "compress", "D", "--out", "out");
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("'notes.txt', which no run published there; give --out", refused.Sentence);
        Assert.Contains("out-2", refused.Sentence);
        var forced = await CommandLine.RunAsync(folder.Path, "compress", "D", "--out", "out", "--force");
        Assert.True(forced.ExitCode == 0, forced.Error);
        Assert.Contains("out.old-1", forced.Error);
        Assert.Equal(["model.onnx", "recipe.yaml", "report.html", "report.json"], Names(Path.Combine(folder.Path, "out")));
        Assert.Equal(["notes.txt"], Names(Path.Combine(folder.Path, "out.old-1")));
        // What a run published is replaced by the next without a word, and a recipe that was edited there is not.
        Check(folder, "D", "out");
        File.AppendAllText(Path.Combine(folder.Path, "out", "recipe.yaml"), "# mine\n");
        Assert.Contains("'recipe.yaml', which changed", Refused(folder, "D", "out"));
    }

    [Fact]
    public void An_output_that_cannot_be_is_one_sentence_before_any_work()
    {
        using var folder = new Folder();
        var model = Path.Combine(Drop(folder), "model.onnx");
        foreach (var (link, target) in new[] { ("loop", "loop"), ("nowhere", "gone"), ("root", "/"), ("D-link", "D") })
            File.CreateSymbolicLink(Path.Combine(folder.Path, link), target);
        foreach (var watched in new[] { "drop", "work", "compressed", "failed" })
            Directory.CreateDirectory(Path.Combine(folder.Path, "inbox", watched));
        foreach (
            var (output, why) in new[]
            {
                ("", "names no folder"),
                ("  ", "names no folder"),
                ("/", "is the root"),
                ("root", "is the root"),
                ("D/model.onnx", "is a file"),
                ("D/model.onnx/x", "is a file"),
                ("loop", "round in a circle"),
                ("nowhere", "leads nowhere"),
                ("/proc/nothing/here", "nothing can be written in /proc"),
                (new string('x', 300), "too long"),
                ("a:b", "a colon; give another"),
                ("D/../D", "never replaced"),
                (".", "never replaced"),
                ("D-link", "never replaced"),
                ("inbox/drop/small", "takes what appears"),
                ("inbox/small", "takes what appears"),
            }
        )
            Assert.Contains(why, Refused(folder, "D", output, force: true));
        Assert.Equal(["D", "D-link", "inbox", "loop", "nowhere", "root"], Names(folder.Path));
        Check(folder, "D", "new/deep/out");
        Check(folder, "D", "inbox/compressed/m/r");
        Assert.True(File.Exists(model));
    }

    [Fact]
    public void Another_name_of_the_original_is_found_in_the_output()
    {
        using var folder = new Folder();
        var model = Path.Combine(Drop(folder), "model.onnx");
        Directory.CreateDirectory(Path.Combine(folder.Path, "hard", "deep"));
        using (var ln = System.Diagnostics.Process.Start("ln", [model, Path.Combine(folder.Path, "hard", "deep", "other.bin")]))
            ln.WaitForExit();
        Assert.Contains("'other.bin', which is to be read", Refused(folder, "D", "hard", force: true));
        // A link as the model: both places are the original's.
        folder.Write("links/x.txt", [1]);
        File.CreateSymbolicLink(Path.Combine(folder.Path, "links", "m.onnx"), model);
        Assert.Contains("never replaced", Refused(folder, "links/m.onnx", "D", force: true));
        Assert.Contains("never replaced", Refused(folder, "links/m.onnx", "links", force: true));
    }

    [Fact]
    public async Task External_data_is_an_original_too()
    {
        using var folder = new Folder();
        // A published result whose data another model shares: ours, and still not to be replaced.
        folder.Write("m/part/w.bin", new byte[4096]);
        var model = TestModels
            .OfOpset(17)
            .Input("x", Core.Model.Schema.TensorProto.Types.DataType.Float, 1, 32)
            .With(TestModels.Node("MatMul", ["x", "w"], ["y"]))
            .Output("y")
            .Weight("w", 32, 32);
        Core.Model.TensorRef.Point(model.Graph.Initializer[0], "part/model.onnx.data", 0, 4096);
        folder.Write("m/m.onnx", model);
        File.Delete(Path.Combine(folder.Path, "m", "part", "w.bin"));
        folder.Write("m/part/model.onnx.data", new byte[4096]);
        folder.Write("m/part/report.json", Encoding.UTF8.GetBytes("""{"runId":"r-1","size":{"after":4096}}"""));
        var done = await CommandLine.RunAsync(folder.Path, "compress", "m", "--out", "m/part");
        Assert.Equal(2, done.ExitCode);
        Assert.Contains("never replaced", done.Sentence);
        Assert.Equal(4096, new FileInfo(Path.Combine(folder.Path, "m", "part", "model.onnx.data")).Length);
    }

    [Theory]
    [InlineData("", "out", "names no folder")]
    [InlineData("/", "out", "is the root")]
    [InlineData("D", "out", "holds 'model.onnx'")]
    [InlineData("D/model.onnx", "out", "is a file")]
    [InlineData("w", "w", "lie in one another")]
    [InlineData("w", "w/out", "lie in one another")]
    [InlineData("out/w", "out", "lie in one another")]
    [InlineData("/proc/nothing", "out", "nothing can be written")]
    public void Work_that_cannot_be_is_one_sentence(string work, string output, string why)
    {
        using var folder = new Folder();
        Drop(folder);
        Assert.Contains(why, Refused(folder, "D", output, work: work));
    }

    [Fact]
    public async Task A_lock_that_cannot_be_made_is_told_of_at_once_and_one_that_is_held_is_waited_for()
    {
        using var folder = new Folder();
        folder.Write("file", [1]);
        var said = new List<string>();
        foreach (
            var path in new[]
            {
                Path.Combine(folder.Path, "file", "r.lock"),
                $"/proc/nothing/r.lock",
                Path.Combine(folder.Path, new string('模', 90) + ".lock"),
            }
        )
            Assert.Contains(
                "--work",
                (
                    await Assert.ThrowsAsync<BadInputException>(() =>
                        RunLock.TakeAsync(path, said.Add, new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token)
                    )
                ).Message
            );
        Assert.Empty(said);
        var free = Path.Combine(folder.Path, "r.lock");
        var first = await RunLock.TakeAsync(free, said.Add, default);
        var second = RunLock.TakeAsync(free, said.Add, default);
        await Task.Delay(300);
        Assert.False(second.IsCompleted);
        first.Dispose();
        using (var held = await second)
            Assert.True(held.Waited);
        Assert.Equal(["Another run of this drop is under way; waiting for it."], said);
    }

    private static string Drop(Folder folder) =>
        Path.GetDirectoryName(folder.Write("D/model.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx"))))!;

    private static LocalOptions Check(Folder folder, string drop, string output, bool force = false, string? work = null)
    {
        var options = new LocalOptions(In(folder, output), folder.Path, work is null ? null : In(folder, work), null) { Force = force };
        return RunFolders.Check(Local.Drop.Of(In(folder, drop), null, null), options, _ => { });
    }

    private static string Refused(Folder folder, string drop, string output, bool force = false, string? work = null) =>
        Assert.Throws<BadInputException>(() => Check(folder, drop, output, force, work)).Message;

    private static string In(Folder folder, string path) => path.Trim().Length == 0 ? path : Path.Combine(folder.Path, path);

    private static string Hash(string folder) =>
        string.Join(
            '|',
            Directory
                .GetFiles(folder)
                .Order(StringComparer.Ordinal)
                .Select(f => $"{f} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(f)))}")
        );

    private static IEnumerable<string?> Names(string folder) =>
        Directory.GetFileSystemEntries(folder).Select(Path.GetFileName).Order(StringComparer.Ordinal);
}
