using System.Diagnostics;
using System.Text;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Local.Tests;

/// <summary>The process that runs the model is killed, or the host is: nothing is lost, and nobody is left behind.</summary>
public class KillTests
{
    private const string Gptq = "version: 1\nevaluate: {latency: false}\nsteps:\n- quantize: {method: gptq, bits: 4}\n";

    [Fact]
    public async Task A_model_process_killed_once_is_started_again()
    {
        using var folder = new Folder();
        var plain = await CompressAsync(folder, "plain");
        Assert.True(plain.ExitCode == 0, plain.Error);
        foreach (var signal in new[] { "KILL", "SEGV" })
        {
            using var run = Start(folder, signal);
            if (await ChildProcesses.WaitForOneAsync(run) is { } child)
                ChildProcesses.Signal(child, signal);
            var ended = await EndAsync(run);
            Assert.True(ended.ExitCode == 0, $"{signal}: {ended.Error}");
            Assert.Equal(Model(folder, "plain"), Model(folder, signal));
        }
    }

    [Fact]
    public async Task A_model_process_killed_twice_says_memory_and_loses_nothing()
    {
        using var folder = new Folder();
        using var run = Start(folder, "killed");
        while (await ChildProcesses.WaitForOneAsync(run) is { } child)
        {
            ChildProcesses.Signal(child, "KILL");
            await Task.Delay(20);
        }
        var ended = await EndAsync(run);
        Assert.Equal(1, ended.ExitCode);
        Assert.Contains("memory", ended.Sentence);
        Assert.DoesNotContain("Exception", ended.Error);
        Assert.NotEmpty(Directory.GetFiles(Path.Combine(folder.Path, ".serverless-work"), "journal.jsonl", SearchOption.AllDirectories));
        var last = await CompressAsync(folder, "killed", "--memory", "2GB");
        Assert.True(last.ExitCode == 0, last.Error);
        Assert.Contains("Going on from", last.Error);
        Assert.False(Directory.Exists(Path.Combine(folder.Path, ".serverless-work")));
    }

    [Theory]
    [InlineData("KILL")]
    [InlineData("HUP")]
    [InlineData("QUIT")]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task A_model_process_ends_with_its_host(string signal)
    {
        Assert.SkipWhen(
            ChildProcesses.Ignores(signal),
            "Run under nohup or in the background of a shell: this process and those it starts ignore the signal."
        );
        using var folder = new Folder();
        folder.Write("slow.onnx", Slow());
        using var run = CommandLine.Start(folder.Path, "compress", "slow.onnx", "--out", "out");
        _ = run.StandardOutput.ReadToEndAsync();
        _ = run.StandardError.ReadToEndAsync();
        var child = await ChildProcesses.WaitForOneAsync(run);
        Assert.NotNull(child);
        Assert.False(run.HasExited);
        await Task.Delay(300);
        ChildProcesses.Signal(run.Id, signal);
        await run.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(20)).Token);
        var clock = Stopwatch.StartNew();
        while (ChildProcesses.IsAlive(child.Value) && clock.Elapsed < TimeSpan.FromSeconds(10))
            await Task.Delay(10);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(2), $"The child lived {clock.Elapsed.TotalSeconds:0.0} s longer.");
    }

    [Fact]
    public async Task A_model_that_takes_too_long_is_stopped_by_the_recipes_limit()
    {
        using var folder = new Folder();
        folder.Write("slow.onnx", Slow());
        var recipe = folder.Write("recipe.yaml", "version: 1\npreset: int8\nevaluate: {timeout: 0.05}\n"u8.ToArray());
        var ended = await CommandLine.RunAsync(folder.Path, "compress", "slow.onnx", "--recipe", recipe, "--out", "out");
        Assert.True(ended.ExitCode == 2, ended.Error);
        Assert.True(ended.Sentence.Contains("evaluate: {timeout: MINUTES}"), ended.Error);
        Assert.NotEmpty(Directory.GetFiles(Path.Combine(folder.Path, ".serverless-work"), "journal.jsonl", SearchOption.AllDirectories));
    }

    // A loop that multiplies a matrix a billion times.
    private static Core.Model.Schema.ModelProto Slow()
    {
        var body = new Core.Model.Schema.GraphProto { Name = "body" };
        body.Input.Add(Value("i", DataType.Int64, []));
        body.Input.Add(Value("c", DataType.Bool, []));
        body.Input.Add(Value("s", DataType.Float, 64, 64));
        body.Node.Add(Node("Identity", ["c"], ["c2"]));
        body.Node.Add(Node("MatMul", ["s", "w"], ["s2"]));
        body.Output.Add(Value("c2", DataType.Bool));
        body.Output.Add(Value("s2", DataType.Float));
        return TestModels
            .OfOpset(17)
            .Input("x", DataType.Float, 64, 64)
            .Weight("w", 64, 64)
            .Initializer(Tensor("n", DataType.Int64, BitConverter.GetBytes(1_000_000_000L)))
            .Initializer(Tensor("t", DataType.Bool, [1]))
            .With(
                Node(
                    "Loop",
                    ["n", "t", "x"],
                    ["y"],
                    new Core.Model.Schema.AttributeProto
                    {
                        Name = "body",
                        Type = Core.Model.Schema.AttributeProto.Types.AttributeType.Graph,
                        G = body,
                    }
                )
            )
            .Output("y");
    }

    private static Process Start(Folder folder, string output, params string[] more)
    {
        // Written once: another version of the recipe is another run.
        var recipe = Path.Combine(folder.Path, "recipe.yaml");
        if (!File.Exists(recipe))
            folder.Write("recipe.yaml", Encoding.UTF8.GetBytes(Gptq));
        return CommandLine.Start(folder.Path, ["compress", RealModels.Digits, "--recipe", recipe, "--out", output, .. more]);
    }

    private static async Task<CommandLine.Outcome> CompressAsync(Folder folder, string output, params string[] more)
    {
        using var run = Start(folder, output, more);
        return await EndAsync(run);
    }

    private static async Task<CommandLine.Outcome> EndAsync(Process run)
    {
        var (output, error) = (run.StandardOutput.ReadToEndAsync(), run.StandardError.ReadToEndAsync());
        await run.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromMinutes(2)).Token);
        return new CommandLine.Outcome(run.ExitCode, await output, await error);
    }

    private static byte[] Model(Folder folder, string output) => File.ReadAllBytes(Path.Combine(folder.Path, output, "model.onnx"));
}
