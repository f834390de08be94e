using System.Runtime.InteropServices;
using Serverless.Core;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.Core.Tests;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Codewords of several weights, nearest and with errors made up for (GPTVQ), against their formulas in double precision.</summary>
public class ProductTests
{
    private static readonly (string File, string Data) Digits = (
        Path.Combine(RealModels.Digits, "digits.onnx"),
        Path.Combine(RealModels.Digits, "data.npz")
    );

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Without_data_every_run_of_weights_takes_its_nearest_codeword(int dimension)
    {
        const int K = 96,
            N = 60;
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 1, K).Weight("w", K, N).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var lowered = await Lowered.Of(folder, model, $"share: {{method: product, bits: 5, dimension: {dimension}, protect: 0}}");
        var grid = (CodebookGrid)Assert.Single(lowered.Encoded).Value.Grid;
        var (book, weights, decoded) = (grid.Values!.Read(lowered.Shards["w"]), Random("w", K, N), lowered.LargestWeight);
        for (var n = 0; n < N; n++)
        for (var k = 0; k < K; k += dimension)
        {
            double Distance(Func<int, double> to) => Enumerable.Range(0, dimension).Sum(p => Math.Pow(weights[(k + p) * N + n] - to(p), 2));
            var nearest = Enumerable.Range(0, grid.Entries).Min(w => Distance(p => book[w * dimension + p]));
            Assert.Equal(nearest, Distance(p => decoded[(k + p) * N + n]), 1e-6);
        }
    }

    // The update of all weights that are left, by the inverse Hessian: eq. 3 of the paper, in no other order than the columns'.
    [Fact]
    public async Task With_data_codewords_are_those_of_the_papers_updates()
    {
        const int K = 24,
            N = 30,
            D = 2,
            Samples = 128;
        using var folder = new Folder();
        var mixed = Random("m", K, K);
        var inputs = new float[Samples * K];
        var noise = Random("x", Samples, K);
        for (var s = 0; s < Samples; s++)
        for (var k = 0; k < K; k++)
            inputs[s * K + k] = Enumerable.Range(0, K).Sum(j => noise[s * K + j] * mixed[j * K + k]);
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [Samples, K], MemoryMarshal.AsBytes<float>(inputs).ToArray()));
        var weights = Random("w", K, N);
        var model = OfOpset(17).Input("x", DataType.Float, 1, K).Weight("w", K, N).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var recipe = "version: 1\nsteps:\n- share: {method: product, bits: 4, order: false, damping: 0.5, rounds: 0, protect: 0}\n";
        var done = await Compressed.RunAsync(folder, folder.Write("m.onnx", model), recipe, data);
        var graph = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
        var book = graph.Initializer.Single(t => t.DataType == (int)DataType.Float && t.Dims.Count == 2);
        var values = MemoryMarshal.Cast<byte, float>(book.RawData.Span).ToArray();
        var (_, optimized) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "optimized.onnx"));
        var decoded = new Lowered(new Dictionary<string, EncodedLayer>(), [], optimized).LargestWeight;

        var h = new double[K, K];
        for (var s = 0; s < Samples / 2; s++)
        for (var i = 0; i < K; i++)
        for (var j = 0; j < K; j++)
            h[i, j] += (double)inputs[s * K + i] * inputs[s * K + j];
        var trace = Enumerable.Range(0, K).Average(i => h[i, i]);
        for (var i = 0; i < K; i++)
            h[i, i] += 0.5 * trace;
        for (var n = 0; n < N; n++)
        {
            var w = Enumerable.Range(0, K).Select(k => (double)weights[k * N + n]).ToArray();
            for (var k = 0; k < K; k += D)
            {
                // What is lost when the others are free: eᵀ ([H⁻¹]_bb)⁻¹ e.
                var inverse = ReferenceInverse.Of(h, k);
                var block = new double[D, D];
                for (var i = 0; i < D; i++)
                for (var j = 0; j < D; j++)
                    block[i, j] = inverse[i, j];
                var cost = ReferenceInverse.Of(block);
                var best = Enumerable
                    .Range(0, values.Length / D)
                    .MinBy(c => Enumerable.Range(0, D * D).Sum(p => cost[p / D, p % D] * Off(c, p / D) * Off(c, p % D)));
                double[] error = [.. Enumerable.Range(0, D).Select(i => Enumerable.Range(0, D).Sum(j => cost[i, j] * Off(best, j)))];
                for (var j = k + D; j < K; j++)
                    w[j] -= Enumerable.Range(0, D).Sum(i => error[i] * inverse[i, j - k]);
                for (var p = 0; p < D; p++)
                    Assert.Equal(values[best * D + p], decoded[(k + p) * N + n], 1e-6);

                double Off(int c, int p) => w[k + p] - values[c * D + p];
            }
        }
    }

    [Fact]
    public async Task On_a_real_model_compensated_codewords_are_nearer_than_the_nearest_and_vectors_than_single_weights()
    {
        var (nearest, compensated) = (
            await ErrorAsync("method: product, dimension: 4, feedback: false"),
            await ErrorAsync("method: product, dimension: 4")
        );
        var (single, alone) = (await ErrorAsync("bits: 2"), await ErrorAsync("method: product, bits: 2, dimension: 1"));
        Assert.True(compensated < 0.6 * nearest, $"{compensated} {nearest}");
        Assert.True(nearest < single, $"{nearest} {single}");
        Assert.True(compensated < alone, $"{compensated} {alone}");
    }

    [Fact]
    public async Task At_four_bits_a_weight_it_is_nearer_than_gptq_in_as_many_bytes()
    {
        using var folder = new Folder();
        var gptq = await RunAsync(folder, "quantize: {method: gptq, bits: 4, group: channel, protect: 0}");
        var product = await RunAsync(folder, "share: {method: product, protect: 0}");
        Assert.InRange(product.Report.Size.After, 0, 1.01 * gptq.Report.Size.After + 1200);
        var (first, second) = (
            await product.ErrorAsync(Digits.File, Digits.Data, 200),
            await gptq.ErrorAsync(Digits.File, Digits.Data, 200)
        );
        Assert.True(first < second, $"{first} {second}");
    }

    [Theory]
    [InlineData("bits: 4")]
    [InlineData("bits: 5, rows: 8, scale: row")]
    [InlineData("method: product, bits: 7, dimension: 2")]
    public async Task A_plan_knows_the_bytes(string options)
    {
        foreach (var op in new[] { "MatMul large", "Gemm large transB" })
        {
            using var folder = new Folder();
            var model = StorageFormTests.Models[op](17);
            var step = $"version: 1\nsteps:\n- share: {{{options}, protect: 0}}\n";
            folder.Write("drop/p.onnx", model);
            var file = Path.Combine(folder.Path, "drop", "p.onnx");
            var bytes = new FileInfo(file).Length;
            var index = await ModelIndexer.IndexAsync(folder.Store, "drop/drop/p.onnx", default);
            var task = LayerTasks.Of(index.Model, RecipeReader.Read(step, "recipe.yaml"), 1, "drop/drop").First(t => t.Step is not null);
            var done = await Compressed.RunAsync(folder, file, step);
            var layer = Assert.Single(done.Report.Layers, l => l.Steps.Count > 0);
            Assert.Equal(task.Plan!.ValueBytes, layer.BytesAfter);
            var grown = new FileInfo(done.File).Length - (bytes - layer.BytesBefore) - layer.BytesAfter;
            // All layers share the tables of symbols.
            var tables = Core
                .Numerics.BitPacking.Planes(
                    int.Parse(options.Split("bits: ")[1].Split(',')[0], System.Globalization.CultureInfo.InvariantCulture)
                )
                .Sum(p => p.Width < 8 ? 256 * 8 / p.Width : 0);
            Assert.InRange(grown - task.Plan.NodeBytes - tables, -150, 300);
        }
    }

    [Fact]
    public void Pruned_weights_are_refused()
    {
        var error = Assert.Throws<BadInputException>(() =>
            RecipeReader.Read("version: 1\nsteps:\n- prune: {}\n- share: {method: product}\n", "recipe.yaml")
        );
        Assert.Contains("method: codebook", error.Message, StringComparison.Ordinal);
    }

    private static async Task<double> ErrorAsync(string options)
    {
        using var folder = new Folder();
        return await (await RunAsync(folder, $"share: {{{options}, protect: 0}}")).ErrorAsync(Digits.File, Digits.Data, 200);
    }

    private static Task<Compressed> RunAsync(Folder folder, string step) =>
        Compressed.RunAsync(folder, Digits.File, $"version: 1\nsteps:\n- {step}\n", Digits.Data);
}
