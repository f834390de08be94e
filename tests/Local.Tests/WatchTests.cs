using System.Diagnostics;
using System.Text.Json;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Local.Tests;

/// <summary>One bad drop: refused in a sentence that tells nothing of the machine, and in nobody's way.</summary>
public class WatchTests
{
    [Fact]
    public async Task A_drop_whose_name_is_not_UTF_8_is_told_of()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs a file system whose names are bytes.");
        using var folder = new Folder();
        folder.Write("drop/good.onnx", [1, 2, 3]);
        await BashAsync("mv drop/good.onnx drop/$(printf 'bad\\377').onnx");
        using (var watch = new DropWatch(new FolderWatch(folder.Path, null), null) { Patience = TimeSpan.Zero })
            await watch.RunAsync(once: true, new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token);
        var error = Assert.Single(Directory.GetFiles(Path.Combine(folder.Path, "failed"), "error.json", SearchOption.AllDirectories));
        Assert.Contains("not UTF-8", File.ReadAllText(error));
        // .NET cannot name it to delete it.
        await BashAsync("rm drop/bad*.onnx");

        async Task BashAsync(string command)
        {
            using var bash = Process.Start(new ProcessStartInfo("bash", ["-c", command]) { WorkingDirectory = folder.Path })!;
            await bash.WaitForExitAsync();
        }
    }

    [Fact]
    public async Task A_model_in_the_place_of_another_of_the_same_length_and_time_is_compressed()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs statx(2).");
        using var folder = new Folder();
        foreach (var seed in new[] { 1f, 2f })
        {
            var model = OfOpset(17)
                .Input("x", DataType.Float, 1, 32)
                .With(Node("MatMul", ["x", "w"], ["y"]))
                .Output("y")
                .Initializer(Tensor("w", [.. Enumerable.Repeat(seed, 1024)], 32, 32));
            File.SetLastWriteTimeUtc(folder.Write("drop/m.onnx", model), DateTime.UnixEpoch);
            var run = await CommandLine.RunAsync(folder.Path, "watch", ".", "--once");
            Assert.True(run.ExitCode == 0, run.Error);
        }
        Assert.Equal(2, Directory.GetFiles(Path.Combine(folder.Path, "compressed"), "report.json", SearchOption.AllDirectories).Length);
    }

    [Fact]
    public async Task A_path_too_long_for_the_system_stops_no_other_drop_and_what_cannot_be_taken_is_told_of()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs bash.");
        using var folder = new Folder();
        foreach (var drop in new[] { "beside.onnx", "long/m.onnx", "upper/M.ONNX", "deep/a/b/m.onnx" })
            folder.Write($"drop/{drop}", [1, 2, 3]);
        const string Script = "cd drop/long; for i in $(seq 20); do mkdir $0 && cd $0; done";
        using (
            var bash = Process.Start(new ProcessStartInfo("bash", ["-c", Script, new string('d', 250)]) { WorkingDirectory = folder.Path })!
        )
            await bash.WaitForExitAsync();
        using (var watch = new DropWatch(new FolderWatch(folder.Path, null), null) { Patience = TimeSpan.Zero })
            await watch.RunAsync(once: true, new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token);
        var told = Directory.GetDirectories(Path.Combine(folder.Path, "failed")).Select(Path.GetFileName).Order();
        // .NET cannot name it to delete it.
        using (var remove = Process.Start("rm", ["-rf", Path.Combine(folder.Path, "drop", "long")]))
            await remove.WaitForExitAsync();
        Assert.Equal(["beside", "deep", "long", "upper"], told);
    }

    [Fact]
    public async Task A_drop_that_leads_out_or_is_no_file_is_refused_alike_whatever_is_there()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs mkfifo.");
        using var folder = new Folder();
        var digits = File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx"));
        var secret = folder.Write("outside/secret.onnx", digits);
        folder.Write("outside/big.bin", new byte[1 << 20]);
        var drop = Directory.CreateDirectory(Path.Combine(folder.Path, "inbox", "drop")).FullName;
        var model = OfOpset(17).Input("x", DataType.Float, 1, 32).With(Node("MatMul", ["x", "w"], ["y"])).Output("y").Weight("w", 32, 32);
        Core.Model.TensorRef.Point(model.Graph.Initializer[0], "w.bin", 0, 4096);
        foreach (
            var (name, target) in new[]
            {
                ("there", secret),
                ("absent", "/nowhere/x.onnx"),
                ("large", Path.Combine(folder.Path, "outside", "big.bin")),
                ("none", "../../outside/none"),
            }
        )
        {
            File.CreateSymbolicLink(Path.Combine(drop, $"model-{name}.onnx"), target);
            File.CreateSymbolicLink(Path.Combine(drop, $"folder-{name}"), name == "there" ? Path.GetDirectoryName(secret)! : target);
            foreach (var file in new[] { "recipe.yaml", "data.npz", "w.bin" })
            {
                folder.Write($"inbox/drop/{file}-{name}/m.onnx", model);
                if (file != "w.bin")
                    folder.Write($"inbox/drop/{file}-{name}/w.bin", new byte[4096]);
                File.CreateSymbolicLink(Path.Combine(drop, $"{file}-{name}", file), target);
            }
        }
        File.CreateSymbolicLink(Path.Combine(drop, "loop.onnx"), "loop.onnx");
        Directory.CreateDirectory(Path.Combine(drop, "round"));
        File.CreateSymbolicLink(Path.Combine(drop, "round", "again"), "..");
        folder.Write("inbox/drop/round/m.onnx", [1, 2, 3]);
        folder.Write("inbox/drop/line\nfeed.onnx", digits);
        foreach (var pipe in new[] { "pipe.onnx", "piped/data.npz" })
        {
            if (pipe.Contains('/'))
                folder.Write("inbox/drop/piped/m.onnx", digits);
            using var make = Process.Start("mkfifo", [Path.Combine(drop, pipe)]);
            await make.WaitForExitAsync();
        }
        using (var watch = new DropWatch(new FolderWatch(Path.Combine(folder.Path, "inbox"), null), null) { Patience = TimeSpan.Zero })
            await watch.RunAsync(once: true, new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token);
        var errors = Directory
            .GetFiles(Path.Combine(folder.Path, "inbox", "failed"), "error.json", SearchOption.AllDirectories)
            .ToDictionary(f => Path.GetFileName(Path.GetDirectoryName(Path.GetDirectoryName(f)))!, File.ReadAllText);
        Assert.Equal(20 + 5, errors.Count);
        Assert.All(errors.Values, e => Assert.DoesNotContain(folder.Path, e));
        foreach (var kind in new[] { "model", "folder", "recipe.yaml", "data.npz", "w.bin" })
            Assert.Single(
                errors
                    .Where(e => e.Key.StartsWith(kind + "-", StringComparison.Ordinal))
                    .Select(e => Sentence(e.Value).Replace(e.Key, ""))
                    .Distinct()
            );
        Assert.All(
            errors.Where(e => e.Key.Contains('-') && !e.Key.StartsWith("folder", StringComparison.Ordinal) && e.Key != "line-feed"),
            e => Assert.Contains("leads out of the drop", Sentence(e.Value))
        );
        Assert.Contains("round in a circle", Sentence(errors["loop"]));
        Assert.Contains("only regular files", Sentence(errors["pipe"]));
        Assert.Contains("only regular files", Sentence(errors["piped"]));
        Assert.Contains("line\\u000Afeed.onnx", Sentence(errors["line-feed"]));
        Assert.Contains("not a whole ONNX model", Sentence(errors["round"]));
    }

    [Fact]
    public async Task A_slow_drop_keeps_no_other_waiting_and_the_watch_heeds_its_end()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs mkfifo and kill.");
        using var folder = new Folder();
        var digits = File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx"));
        // A budget that cannot be met and a wait of hours: slow for certain.
        folder.Write("inbox/drop/a-slow/m.onnx", digits);
        folder.Write(
            "inbox/drop/a-slow/recipe.yaml",
            "version: 1\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\nbudget: {maxAccuracyLoss: 0}\nretrain: {wait: 5}\nevaluate: {latency: false}\n"u8.ToArray()
        );
        using (var make = Process.Start("mkfifo", [Path.Combine(folder.Path, "inbox", "drop", "a-pipe.onnx")]))
            await make.WaitForExitAsync();
        using var watch = CommandLine.Start(folder.Path, "watch", "inbox", "--parallel", "2");
        try
        {
            _ = watch.StandardOutput.ReadToEndAsync();
            while (
                await watch.StandardError.ReadLineAsync() is { } line
                && !line.StartsWith("a-slow: The loss budget", StringComparison.Ordinal)
            )
                Assert.False(watch.HasExited);
            folder.Write("inbox/drop/fast.onnx", digits);
            while (await watch.StandardError.ReadLineAsync() is { } line && line != "fast: Publish")
                Assert.False(watch.HasExited);
            using (var kill = Process.Start("kill", ["-TERM", watch.Id.ToString()]))
                await kill.WaitForExitAsync();
            _ = watch.StandardError.ReadToEndAsync();
            await watch.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        }
        finally
        {
            if (!watch.HasExited)
                watch.Kill(entireProcessTree: true);
        }
    }

    [Fact]
    public async Task Nothing_that_happens_to_a_drop_or_a_listing_ends_the_watch()
    {
        using var folder = new Folder();
        var place = new Troubled(folder);
        using var end = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        using var watch = new DropWatch(place, null) { Patience = TimeSpan.Zero };
        var watching = watch.RunAsync(once: false, end.Token);
        while (place.Listings < 5)
            await Task.Delay(20, end.Token);
        Assert.False(watching.IsCompleted);
        await end.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => watching);
        Assert.Contains(
            "kaboom",
            File.ReadAllText(Assert.Single(Directory.GetFiles(folder.Path, "error.json", SearchOption.AllDirectories)))
        );
    }

    private static string Sentence(string json)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.GetProperty("error").GetString()!;
    }

    /// <summary>A place whose listing fails now and then, and whose drops throw what nobody expects.</summary>
    private sealed class Troubled(Folder folder) : IDropSource
    {
        public int Listings { get; private set; }

        public string Name => "trouble";

        public IArtifactStore Results { get; } =
            new FolderStore(new Dictionary<string, string> { ["compressed"] = folder.Path, ["failed"] = folder.Path });

        public LocalOptions Options(Drop drop, string runId, long? memory) => throw new NotSupportedException();

        public Task PrepareAsync(CancellationToken cancellation) => Task.CompletedTask;

        public Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation) =>
            ++Listings == 2
                ? throw new UnauthorizedAccessException("not now")
                : Task.FromResult<IReadOnlyList<DropCandidate>>([
                    new DropCandidate("x.onnx", "1", () => throw new InvalidOperationException("kaboom")),
                ]);
    }
}
