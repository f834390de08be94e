using Serverless.Core.Model.Schema;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// A run stopped before it publishes, an object of its work damaged, and the run gone on with: the result is the same to the byte.
/// </summary>
public class DamageTests
{
    private static readonly Dictionary<string, Func<byte[], byte[]?>> Damages = new()
    {
        ["flipped"] = b => b.Select((x, i) => i == b.Length / 2 ? (byte)(x ^ 16) : x).ToArray(),
        ["cut"] = b => b[..(b.Length / 2)],
        ["emptied"] = _ => [],
        ["zeroed"] = b => new byte[b.Length],
        ["deleted"] = _ => null,
    };

    private const string Mixed =
        "evaluate: {latency: false}\nbudget: {maxSizeRatio: 0.2}\nsteps:\n- quantize: {method: gptq, bits: mixed}\n";
    private const string Static =
        "evaluate: {latency: false}\nsteps:\n- equalize: {}\n- smooth: {}\n- quantize: {method: static, onlyIfFaster: false}\n";

    private static readonly System.Collections.Concurrent.ConcurrentDictionary<string, Lazy<Task<byte[]>>> Plain = new();

    [Theory]
    [InlineData(Mixed)]
    [InlineData(Static)]
    public async Task Every_kind_of_object_of_the_work_is_made_again_when_it_is_damaged(string recipe)
    {
        using var folder = new Folder();
        var drop = Drop.Of(
            folder.Write("model/m.onnx", Net()),
            folder.Write("recipe/recipe.yaml", System.Text.Encoding.UTF8.GetBytes("version: 1\n" + recipe)),
            Samples(folder)
        );
        var (plain, stopped, output) = (
            Path.Combine(folder.Path, "plain"),
            Path.Combine(folder.Path, "stopped"),
            Path.Combine(folder.Path, "out")
        );
        var expected = await PlainAsync(recipe, drop, plain);
        await StopBeforeAsync("Publish", drop, output, stopped);

        var work = Path.Combine(folder.Path, "work");
        var objects = Directory
            .GetFiles(stopped, "*", SearchOption.AllDirectories)
            .Where(f => !f.EndsWith(".lock", StringComparison.Ordinal))
            .Select(f => Path.GetRelativePath(stopped, f));
        var kinds = objects
            .GroupBy(o => string.Concat(o.Where(c => !char.IsAsciiHexDigit(c))))
            .Select(g => g.Order(StringComparer.Ordinal).Last())
            .ToList();
        Assert.True(kinds.Count > 20, string.Join('\n', kinds));
        // Each kind in each way is tests/Benchmarks -- damage; here each kind in one way, in turn, of one recipe or the other.
        var all = Environment.GetEnvironmentVariable("SERVERLESS_DAMAGE") == "all";
        foreach (var (kind, i) in kinds.Order(StringComparer.Ordinal).Select((k, i) => (k, i)))
        {
            if (!all && recipe == Mixed && i % 2 != 0)
                continue;
            foreach (var (how, damage) in Damages.Where((_, d) => all || d == i % Damages.Count))
            {
                Copy(stopped, work);
                var file = Path.Combine(work, kind);
                if (damage(File.ReadAllBytes(file)) is { } bytes)
                    File.WriteAllBytes(file, bytes);
                else
                    File.Delete(file);
                await RunAsync(drop, output, work, CancellationToken.None);
                Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(output, "model.onnx"))), $"{kind} {how}");
                Directory.Delete(output, recursive: true);
                Directory.Delete(work, recursive: true);
            }
        }
    }

    [Theory]
    [InlineData(Mixed, "attempt-0")]
    [InlineData(Mixed, "state-01/attempt-0/layers/000000.results.json")]
    [InlineData(Mixed, "state-01/calibration/calibration.json")]
    [InlineData(Static, "attempt-0")]
    [InlineData(Static, "state-03/attempt-0/coded/graph.pb")]
    [InlineData(Static, "state-03/calibration")]
    [InlineData(Static, "state-01")]
    public async Task What_is_gone_with_its_checksum_is_made_again(string recipe, string gone)
    {
        using var folder = new Folder();
        var drop = Drop.Of(
            folder.Write("model/m.onnx", Net()),
            folder.Write("recipe/recipe.yaml", System.Text.Encoding.UTF8.GetBytes("version: 1\n" + recipe)),
            Samples(folder)
        );
        var (plain, work, output) = (
            Path.Combine(folder.Path, "plain"),
            Path.Combine(folder.Path, "work"),
            Path.Combine(folder.Path, "out")
        );
        var expected = await PlainAsync(recipe, drop, plain);
        // Both before anything is put together, and before it is published.
        foreach (var stage in new[] { "Reassemble", "Publish" })
        {
            await StopBeforeAsync(stage, drop, output, work);
            var run = Assert.Single(Directory.GetDirectories(work), d => Path.GetFileName(d).StartsWith("m-", StringComparison.Ordinal));
            foreach (
                var path in new[] { Path.Combine(run, gone), Path.Combine(run, ".sums", gone), Path.Combine(run, ".sums", gone + ".sum") }
            )
            {
                if (Directory.Exists(path))
                    Directory.Delete(path, recursive: true);
                File.Delete(path);
            }
            await RunAsync(drop, output, work, CancellationToken.None);
            Assert.Equal(expected, File.ReadAllBytes(Path.Combine(output, "model.onnx")));
            Directory.Delete(output, recursive: true);
            Directory.Delete(work, recursive: true);
        }
    }

    // The result of a recipe where nothing is damaged: the first test that asks for it makes it.
    private static Task<byte[]> PlainAsync(string recipe, Drop drop, string output) =>
        Plain
            .GetOrAdd(
                recipe,
                _ =>
                    new(async () =>
                    {
                        await RunAsync(drop, output, output + "-work", CancellationToken.None);
                        return await File.ReadAllBytesAsync(Path.Combine(output, "model.onnx"));
                    })
            )
            .Value;

    private static ModelProto Net() =>
        OfOpset(17)
            .Input("x", DataType.Float, 1, 4, 8, 8)
            .Weight("k1", 16, 4, 3, 3)
            .Weight("k2", 16, 16, 3, 3)
            .Weight("b1", 16)
            .Weight("b2", 16)
            .Weight("w", 256, 40)
            .Weight("v", 40, 24)
            .With(
                Node("Conv", ["x", "k1", "b1"], ["a"]),
                Node("Relu", ["a"], ["b"]),
                Node("Conv", ["b", "k2", "b2"], ["c"]),
                Node("Relu", ["c"], ["d"]),
                Node("Flatten", ["d"], ["e"]),
                Node("MatMul", ["e", "w"], ["f"]),
                Node("MatMul", ["f", "v"], ["y"])
            )
            .Output("y");

    private static string Samples(Folder folder)
    {
        var path = Path.Combine(folder.Path, "data.npz");
        Npz.Write(
            path,
            (
                "x",
                "<f4",
                [48, 4, 8, 8],
                System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(TestModels.Random("x", 48, 4, 8, 8)).ToArray()
            )
        );
        return path;
    }

    private static Task RunAsync(
        Drop drop,
        string output,
        string work,
        CancellationToken cancellation,
        Action<Serverless.Core.Runs.RunStatus>? show = null
    ) =>
        RunDrop.RunAsync(
            drop,
            new LocalOptions(output, Path.GetDirectoryName(output)!, work, 1L << 30, Isolated: false),
            show ?? (_ => { }),
            _ => { },
            cancellation
        );

    private static async Task StopBeforeAsync(string stage, Drop drop, string output, string work)
    {
        using var stop = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            RunAsync(
                drop,
                output,
                work,
                stop.Token,
                s =>
                {
                    if (s.Stage == stage)
                        stop.Cancel();
                }
            )
        );
    }

    private static void Copy(string from, string to)
    {
        foreach (var file in Directory.GetFiles(from, "*", SearchOption.AllDirectories))
        {
            var target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }
    }
}
