using System.Diagnostics;
using System.Globalization;
using System.IO.Compression;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Local;
using Serverless.TestSupport;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Benchmarks;

/// <summary>
/// Times whole commands on made models of growing size; linear work takes at most five times as long at four times the size.
/// </summary>
internal static class Scaling
{
    private const int Samples = 64;

    private static readonly Case[] Cases =
    [
        new("static, 64 samples, n convolutions", Convolutions, [100, 200, 400], "- quantize: {method: static, onlyIfFaster: false}"),
        new("rtn, n dead nodes", DeadNodes, [4_000, 8_000, 16_000], "- quantize: {method: rtn}"),
        new("inspect, n initializers that are inputs", Inputs, [20_000, 40_000, 80_000], null),
        new("rtn, n tensors that share 16 KB", Shared, [5_000, 10_000, 20_000], "- quantize: {method: rtn}"),
        new("inspect, n attributes of a node", Attributes, [75_000, 150_000, 300_000], null),
    ];

    /// <summary>Prints a table of seconds.</summary>
    /// <param name="only">Words that a case's name must hold one of; none for all cases.</param>
    /// <returns>0 when each case is linear.</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> only)
    {
        var failed = false;
        Console.WriteLine("| case | n | seconds | seconds at 4n / at n |");
        Console.WriteLine("|---|---|---|---:|");
        foreach (var given in Cases.Where(c => only.Count == 0 || only.Any(w => c.Name.Contains(w, StringComparison.Ordinal))))
        {
            var seconds = new List<double>();
            foreach (var n in given.Sizes)
                seconds.Add(await TimeAsync(given, n));
            var ratio = seconds[^1] / seconds[0];
            failed |= ratio > 5;
            var times = string.Join(" / ", seconds.Select(s => s.ToString("0.00", CultureInfo.InvariantCulture)));
            Console.WriteLine(
                string.Create(CultureInfo.InvariantCulture, $"| {given.Name} | {string.Join(" / ", given.Sizes)} | {times} | {ratio:0.0} |")
            );
        }
        return failed ? 1 : 0;
    }

    private static async Task<double> TimeAsync(Case given, int n)
    {
        var root = Directory.CreateTempSubdirectory("serverless-scaling-").FullName;
        try
        {
            var model = Path.Combine(root, "model.onnx");
            await File.WriteAllBytesAsync(model, given.Make(n, root).ToByteArray());
            string[] arguments = ["inspect", model];
            if (given.Step is not null)
            {
                var recipe = Path.Combine(root, "recipe.yaml");
                await File.WriteAllTextAsync(recipe, $"version: 1\nsteps:\n{given.Step}\n");
                arguments = ["compress", model, "--recipe", recipe, "--out", "out"];
                if (File.Exists(Data(root)))
                    arguments = [.. arguments, "--data", Data(root)];
            }
            var clock = Stopwatch.StartNew();
            var start = new ProcessStartInfo("dotnet")
            {
                WorkingDirectory = root,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            foreach (var a in (string[])[typeof(ExitCode).Assembly.Location, .. arguments])
                start.ArgumentList.Add(a);
            using var run = Process.Start(start)!;
            _ = run.StandardOutput.ReadToEndAsync();
            var error = await run.StandardError.ReadToEndAsync();
            await run.WaitForExitAsync();
            if (run.ExitCode != 0)
                throw new InvalidOperationException($"{given.Name}, {n}: exit {run.ExitCode}, {error}");
            return clock.Elapsed.TotalSeconds;
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private static string Data(string root) => Path.Combine(root, "data.npz");

    private static ModelProto Convolutions(int n, string root)
    {
        var random = new Random(1);
        var values = new byte[Samples * 144 * sizeof(float)];
        for (var i = 0; i < values.Length; i += sizeof(float))
            BitConverter.TryWriteBytes(values.AsSpan(i), random.NextSingle());
        Npz.Write(Data(root), CompressionLevel.NoCompression, ("x0", "<f4", [Samples, 4, 6, 6], values));
        var model = OfOpset(13).Input("x0", DataType.Float, 1, 4, 6, 6);
        for (var i = 0; i < n; i++)
            model
                .Weight($"w{i}", 4, 4, 3, 3)
                .Initializer(Tensor($"b{i}", new float[4], 4))
                .With(
                    Node("Conv", [$"x{i}", $"w{i}", $"b{i}"], [$"c{i}"], ModelEdit.Attribute("pads", [1L, 1, 1, 1])),
                    Node("Relu", [$"c{i}"], [$"x{i + 1}"])
                );
        return model.Output($"x{n}");
    }

    private static ModelProto DeadNodes(int n, string root)
    {
        var model = OfOpset(13).Input("x", DataType.Float, 1, 64).Weight("w", 64, 64).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        for (var i = 0; i < n; i++)
            model.With(Node("Relu", [i == 0 ? "x" : $"d{i - 1}"], [$"d{i}"]));
        return model;
    }

    private static ModelProto Inputs(int n, string root)
    {
        var model = OfOpset(13).Input("x", DataType.Float, 1).With(Node("Neg", ["x"], ["y"])).Output("y");
        for (var i = 0; i < n; i++)
            model.Initializer(Tensor($"i{i}", [0f], 1)).Input($"i{i}", DataType.Float, 1);
        return model;
    }

    private static ModelProto Shared(int n, string root)
    {
        File.WriteAllBytes(Path.Combine(root, "w.bin"), new byte[16 << 10]);
        var model = OfOpset(13).Input("x0", DataType.Float, 1, 64);
        for (var i = 0; i < n; i++)
        {
            var tensor = new TensorProto
            {
                Name = $"w{i}",
                DataType = (int)DataType.Float,
                Dims = { 64, 64 },
            };
            TensorRef.Point(tensor, "w.bin", 0, 16 << 10);
            model.Initializer(tensor).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
        }
        return model.Output($"x{n}");
    }

    private static ModelProto Attributes(int n, string root)
    {
        var node = Node("Relu", ["x"], ["y"]);
        for (var i = 0; i < n; i++)
            node.Attribute.Add(ModelEdit.Attribute($"a{i}", 1L));
        return OfOpset(13).Input("x", DataType.Float, 1).With(node).Output("y");
    }

    /// <summary>A kind of model at several sizes.</summary>
    /// <param name="Name">For the table.</param>
    /// <param name="Make">Makes the model of a size; files beside it go into the folder.</param>
    /// <param name="Sizes">From n to 4n.</param>
    /// <param name="Step">Step of the recipe; null to inspect.</param>
    private sealed record Case(string Name, Func<int, string, ModelProto> Make, int[] Sizes, string? Step);
}
