using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Local.Tests;

public class CommandTests
{
    [Fact]
    public async Task A_folder_drop_is_compressed_evaluated_on_its_data_and_left_unchanged()
    {
        using var folder = new Folder();
        var before = HashOf(RealModels.Digits);
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits);
        Assert.True(done.ExitCode == 0, done.Error);
        Assert.Equal(before, HashOf(RealModels.Digits));
        var output = Assert.Single(Directory.GetDirectories(Path.Combine(folder.Path, "compressed", "digits")));
        Assert.Equal(
            ["model.onnx", "recipe.yaml", "report.html", "report.json"],
            Directory.GetFiles(output).Select(Path.GetFileName).Order()
        );
        Assert.Equal(["compressed"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName));
        using var report = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(output, "report.json")));
        var root = report.RootElement;
        Assert.Equal("data", root.GetProperty("fidelity").GetProperty("source").GetString());
        Assert.Equal(400, root.GetProperty("accuracy").GetProperty("samples").GetInt64());
        Assert.True(
            root.GetProperty("accuracy").GetProperty("after").GetDouble()
                >= root.GetProperty("accuracy").GetProperty("before").GetDouble() - 0.005
        );
        foreach (
            var name in new[]
            {
                "status",
                "size",
                "parameters",
                "fidelity",
                "accuracy",
                "latency",
                "layers",
                "elapsedSeconds",
                "peakMemoryBytes",
            }
        )
            Assert.True(root.TryGetProperty(name, out _), name);
        foreach (
            var name in new[]
            {
                "name",
                "op",
                "shape",
                "steps",
                "bits",
                "sparsity",
                "rank",
                "bytesBefore",
                "bytesAfter",
                "error",
                "seconds",
            }
        )
            Assert.True(root.GetProperty("layers")[0].TryGetProperty(name, out _), name);
        var html = File.ReadAllText(Path.Combine(output, "report.html"));
        Assert.Contains("<svg", html);
        Assert.DoesNotContain("src=\"http", html);
        var again = await CommandLine.RunAsync(
            folder.Path,
            "compress",
            Path.Combine(RealModels.Digits, "digits.onnx"),
            "--recipe",
            Path.Combine(output, "recipe.yaml"),
            "--out",
            "again"
        );
        Assert.True(again.ExitCode == 0, again.Error);
        Assert.Equal(
            File.ReadAllBytes(Path.Combine(output, "model.onnx")),
            File.ReadAllBytes(Path.Combine(folder.Path, "again", "model.onnx"))
        );
    }

    [Theory]
    [InlineData("version: 1\nstep:\n- quantize: {bits: 8}\n", "line 2", "did you mean 'steps'?")]
    [InlineData("version: 1\nsteps:\n- quantize: {bit: 8}\n", "line 3", "did you mean 'bits'?")]
    [InlineData("version: 1\nsteps:\n- quantise: {bits: 8}\n", "line 3", "did you mean 'quantize'?")]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 7}\n", "line 3", "2, 3, 4, 5, 6, 8, 16")]
    [InlineData("version: 1\npreset: int8\nbudget: {maxAccuracyLos: 0.1}\n", "line 3", "did you mean 'maxAccuracyLoss'?")]
    [InlineData("version: 2\npreset: int8\n", "line 1", "version: 1")]
    [InlineData("version: 1\npreset: [\n", "recipe.yaml", "YAML")]
    public async Task A_wrong_recipe_is_one_sentence_and_exit_2(string recipe, string place, string remedy)
    {
        using var folder = new Folder();
        var file = folder.Write("recipe.yaml", Encoding.UTF8.GetBytes(recipe));
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--recipe", file, "--out", "out");
        Assert.Equal(2, done.ExitCode);
        Assert.Contains(place, done.Sentence);
        Assert.Contains(remedy, done.Sentence);
        Assert.False(Directory.Exists(Path.Combine(folder.Path, "out")));
    }

    [Fact]
    public async Task Bad_arguments_and_bad_files_are_one_sentence_and_exit_2()
    {
        using var folder = new Folder();
        folder.Write("broken.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx"))[..5000]);
        folder.Write("data.npz", [1, 2, 3]);
        folder.Write("two/a.onnx", [1]);
        folder.Write("two/b.onnx", [1]);
        foreach (
            var args in new string[][]
            {
                ["compress", "nowhere.onnx"],
                ["compress", "broken.onnx"],
                ["compress", "two"],
                ["compress"],
                ["compress", "broken.onnx", "--wrong"],
                ["compress", RealModels.Digits, "--data", "data.npz"],
                ["compress", RealModels.Digits, "--memory", "much"],
                ["inspect", "nowhere.onnx"],
                ["watch", "broken.onnx"],
            }
        )
        {
            var done = await CommandLine.RunAsync(folder.Path, args);
            Assert.True(done.ExitCode == 2, $"{string.Join(' ', args)}: {done.ExitCode} {done.Error}");
            Assert.DoesNotContain("   at ", done.Error);
            Assert.True(done.Sentence.Length > 10, done.Error);
        }
        foreach (var args in new string[][] { ["--help"], ["compress", "--help"], ["inspect", "--help"], ["watch", "--help"] })
            Assert.Equal(0, (await CommandLine.RunAsync(folder.Path, args)).ExitCode);
    }

    [Fact]
    public async Task A_loss_budget_is_met_with_more_bits_or_ends_with_exit_3()
    {
        using var folder = new Folder();
        var met = folder.Write(
            "met.yaml",
            Encoding.UTF8.GetBytes(
                "version: 1\nevaluate: {latency: false}\nbudget: {maxAccuracyLoss: 0.002}\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\n"
            )
        );
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--recipe", met, "--out", "met");
        Assert.True(done.ExitCode == 0, done.Error + done.Output);
        using var report = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder.Path, "met", "report.json")));
        Assert.True(report.RootElement.GetProperty("attempts").GetInt32() > 1);
        Assert.True(report.RootElement.GetProperty("size").GetProperty("ratio").GetDouble() < 0.29);
        Assert.True(report.RootElement.GetProperty("budget").GetProperty("met").GetBoolean());
        var never = folder.Write(
            "never.yaml",
            Encoding.UTF8.GetBytes(
                "version: 1\nevaluate: {latency: false}\nbudget: {maxAccuracyLoss: 0, maxSizeRatio: 0.1}\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\n"
            )
        );
        done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--recipe", never, "--out", "never");
        Assert.Equal(3, done.ExitCode);
        using var over = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder.Path, "never", "report.json")));
        Assert.Equal("over-budget", over.RootElement.GetProperty("status").GetString());
        Assert.True(File.Exists(Path.Combine(folder.Path, "never", "model.onnx")));
    }

    [Fact]
    public async Task Killed_twenty_times_the_run_ends_with_the_same_bytes()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 1, 256);
        for (var i = 0; i < 24; i++)
            model.Weight($"w{i}", 256, 256).With(Node("MatMul", [i == 0 ? "x" : $"y{i - 1}", $"w{i}"], [$"y{i}"]));
        folder.Write("m.onnx", model.Output("y23"));
        var recipe = folder.Write("recipe.yaml", Encoding.UTF8.GetBytes("version: 1\npreset: int4\nevaluate: {latency: false}\n"));
        var plain = await CommandLine.RunAsync(folder.Path, "compress", "m.onnx", "--recipe", recipe, "--out", "plain");
        Assert.True(plain.ExitCode == 0, plain.Error);
        var random = new Random(1);
        string[] stages = ["Inspect", "Plan", "Compress", "Compress", "Compress", "Reassemble", "Evaluate", "Publish"];
        for (var kill = 0; kill < 20; kill++)
        {
            using var process = CommandLine.Start(folder.Path, "compress", "m.onnx", "--recipe", recipe, "--out", "killed");
            _ = process.StandardOutput.ReadToEndAsync();
            // In each stage, a little after it began; the last one may have ended by then.
            while (await process.StandardError.ReadLineAsync() is { } line && line != stages[kill % stages.Length])
                continue;
            await Task.Delay(random.Next(40));
            process.Kill();
            await process.WaitForExitAsync();
        }
        var last = await CommandLine.RunAsync(folder.Path, "compress", "m.onnx", "--recipe", recipe, "--out", "killed");
        Assert.True(last.ExitCode == 0, last.Error);
        Assert.Equal(
            File.ReadAllBytes(Path.Combine(folder.Path, "plain", "model.onnx")),
            File.ReadAllBytes(Path.Combine(folder.Path, "killed", "model.onnx"))
        );
        Assert.DoesNotContain(
            Directory.GetFiles(folder.Path, "*", SearchOption.AllDirectories),
            f => f.EndsWith(".partial", StringComparison.Ordinal)
        );
    }

    [Fact]
    public async Task A_model_that_takes_too_much_memory_ends_in_its_own_process()
    {
        using var folder = new Folder();
        folder.Write(
            "greedy.onnx",
            OfOpset(16)
                .Input("x", DataType.Float, 1, 64)
                .Weight("w", 64, 64)
                .Initializer(
                    Tensor(
                        "shape",
                        DataType.Int64,
                        System.Runtime.InteropServices.MemoryMarshal.AsBytes<long>(new long[] { 25_000, 64 }),
                        2
                    )
                )
                .With(
                    Node("MatMul", ["x", "w"], ["a"]),
                    Node("Expand", ["a", "shape"], ["b"]),
                    Node("Transpose", ["b"], ["c"]),
                    Node("MatMul", ["b", "c"], ["y"])
                )
                .Output("y")
        );
        var done = await CommandLine.RunAsync(folder.Path, "compress", "greedy.onnx", "--out", "out", "--memory", "1GB");
        Assert.Equal(2, done.ExitCode);
        Assert.Contains("--memory", done.Sentence);
        Assert.False(Directory.Exists(Path.Combine(folder.Path, "out")));
        // Nothing is lost: with more memory the same run goes on.
        var more = await CommandLine.RunAsync(folder.Path, "compress", "greedy.onnx", "--out", "out", "--memory", "1500MB");
        Assert.Contains("Going on from", more.Error);
    }

    [Fact]
    public async Task Mutated_models_give_a_result_or_one_sentence()
    {
        using var folder = new Folder();
        var seed = Mutations.Everything(17).ToByteArray();
        // SERVERLESS_MUTATIONS=10000 takes an hour and a half on two cores. MutantTests of the pipeline runs more of them in its process.
        var count = int.TryParse(Environment.GetEnvironmentVariable("SERVERLESS_MUTATIONS"), out var n) ? n : 12;
        var kinds = new int[4];
        await Parallel.ForAsync(
            0,
            count,
            new ParallelOptions { MaxDegreeOfParallelism = 2 },
            async (i, _) =>
            {
                var file = folder.Write($"m{i}.onnx", Mutations.Mutate(seed, new Random(i)));
                var done = await CommandLine.RunAsync(folder.Path, "compress", file, "--out", $"out{i}", "--memory", "1GB");
                if (done.ExitCode is not (0 or 2))
                    File.Copy(file, Path.Combine(TestFolders.Kept, "serverless-mutation.onnx"), overwrite: true);
                Assert.True(
                    done.ExitCode is 0 or 2,
                    $"mutation {i}, kept as serverless-mutation.onnx in the temporary folder: {done.ExitCode} {done.Error}"
                );
                Assert.Equal(done.ExitCode == 0, File.Exists(Path.Combine(folder.Path, $"out{i}", "report.json")));
                if (done.ExitCode == 2)
                    Assert.True(done.Sentence.Length is > 20 and < 700, done.Error);
                Interlocked.Increment(ref kinds[done.ExitCode]);
            }
        );
        Assert.True(kinds[0] > 0 && kinds[2] > 0);
    }

    [Fact]
    public async Task Two_runs_of_one_drop_do_not_fight()
    {
        using var folder = new Folder();
        var runs = await Task.WhenAll(
            Enumerable.Range(0, 3).Select(_ => CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "out"))
        );
        Assert.All(runs, r => Assert.True(r.ExitCode == 0, r.Error));
        Assert.Equal(["out"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName));
    }

    [Fact]
    public async Task Watch_takes_files_when_they_are_whole_and_reports_what_stays_broken()
    {
        using var folder = new Folder();
        using var watch = CommandLine.Start(folder.Path, "watch", "inbox");
        try
        {
            var error = watch.StandardError.ReadToEndAsync();
            _ = watch.StandardOutput.ReadToEndAsync();
            while (!Directory.Exists(Path.Combine(folder.Path, "inbox", "failed")))
                await Task.Delay(50);
            var bytes = File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx"));
            var target = Path.Combine(folder.Path, "inbox", "drop", "slow.onnx");
            await using (var file = File.Create(target))
            {
                await file.WriteAsync(bytes.AsMemory(0, bytes.Length / 2));
                await file.FlushAsync();
                await Task.Delay(4000);
                Assert.False(Directory.Exists(Path.Combine(folder.Path, "inbox", "compressed", "slow")));
                await file.WriteAsync(bytes.AsMemory(bytes.Length / 2));
            }
            File.Copy(Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(folder.Path, "inbox", "direct.onnx"));
            await Until(() => Reports(folder, "slow").Any() && Reports(folder, "direct").Any());
            Assert.False(watch.HasExited);
        }
        finally
        {
            watch.Kill(entireProcessTree: true);
        }
    }

    private static IEnumerable<string> Reports(Folder folder, string name) =>
        Directory.Exists(Path.Combine(folder.Path, "inbox", "compressed", name))
            ? Directory.GetFiles(Path.Combine(folder.Path, "inbox", "compressed", name), "report.json", SearchOption.AllDirectories)
            : [];

    private static async Task Until(Func<bool> condition)
    {
        for (var i = 0; i < 600 && !condition(); i++)
            await Task.Delay(100);
        Assert.True(condition());
    }

    private static string HashOf(string folder) =>
        string.Join(
            '|',
            Directory
                .GetFiles(folder)
                .Order()
                .Select(f => $"{f}:{Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(f)))}:{File.GetLastWriteTimeUtc(f).Ticks}")
        );

    [Fact]
    public async Task Retrained_weights_are_taken_once_from_the_file_that_brings_them()
    {
        using var folder = new Folder();
        var digits = await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, "digits.onnx"));
        folder.Write("m/digits.onnx", digits);
        folder.Write("m/again.bin", digits);
        folder.Write(
            "m/recipe.yaml",
            Encoding.UTF8.GetBytes(
                "version: 1\nsteps:\n- quantize: {bits: 2, scale: absmax, protect: 0}\nbudget: {maxAccuracyLoss: 0, maxSizeRatio: 0.12}\nretrain: {wait: 0.003}\nevaluate: {latency: false}\n"
            )
        );
        using var run = CommandLine.Start(folder.Path, "compress", "m", "--work", "work", "--out", "out");
        var lines = new List<string>();
        await UntilSaid("waiting");
        var work = Directory.GetDirectories(Path.Combine(folder.Path, "work"), "m-*").Single();
        // What is there of it at first is no event yet.
        var path = Path.Combine(Directory.CreateDirectory(Path.Combine(work, "events")).FullName, "retrained.json");
        await using (var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.ReadWrite))
        {
            await file.WriteAsync("""{"model": "drop/"""u8.ToArray());
            await file.FlushAsync();
            await UntilSaid("is not JSON");
            await file.WriteAsync("""again.bin"}"""u8.ToArray());
        }
        lines.Add(await run.StandardError.ReadToEndAsync());
        await run.WaitForExitAsync();
        Assert.True(run.ExitCode == ExitCode.OverBudget, string.Join('\n', lines));
        // The second wait found the file of the first, and did not take it again.
        Assert.Equal(2, string.Join('\n', lines).Split("waiting").Length - 1);

        async Task UntilSaid(string text)
        {
            while (lines.Count == 0 || !lines[^1].Contains(text, StringComparison.Ordinal))
                lines.Add(await run.StandardError.ReadLineAsync() ?? throw new Xunit.Sdk.XunitException(string.Join('\n', lines)));
        }
    }
}
