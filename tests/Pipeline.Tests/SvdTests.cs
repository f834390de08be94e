using MathNet.Numerics.LinearAlgebra;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using Serverless.Core.Recipes;
using Serverless.Core.Reports;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Factorization by singular values, against the decomposition of the whole matrix in double precision.</summary>
public class SvdTests
{
    [Theory]
    [InlineData(40, 70, 12)]
    [InlineData(70, 40, 12)]
    [InlineData(1100, 1050, 5)]
    public void A_product_is_as_near_as_the_best_of_its_rank(int rows, int columns, int rank)
    {
        // The larger matrix has a spectrum that falls off, as weights have: what a random range finds is nearly the best.
        var matrix = rows < 1000 ? Doubles(Random("m", rows, columns)) : FallingOff(rows, columns, 2 * rank);
        var found = LowRank.Of(matrix, rows, columns, rank, 1, CancellationToken.None);
        var whole = Matrix<double>.Build.DenseOfRowMajor(rows, columns, matrix);
        var product =
            Matrix<double>.Build.DenseOfRowMajor(rows, rank, found.Left) * Matrix<double>.Build.DenseOfRowMajor(rank, columns, found.Right);
        var squares = whole.Enumerate().Sum(v => v * v);
        var error = (whole - product).Enumerate().Sum(v => v * v);
        Assert.Equal(squares - found.Captured, error, 1e-6 * squares);
        var best =
            rows < 1000
                ? whole.Svd(computeVectors: false).S.Skip(rank).Sum(s => s * s)
                : Enumerable.Range(rank, rank).Sum(k => Math.Pow(0.5, 2 * k));
        Assert.Equal(best, error, 1e-4 * squares);
    }

    // Of spectra that are flat, fall off below rounding, and end: within a hundredth and a half of the least error.
    [Theory]
    [InlineData("flat", 1.015)]
    [InlineData("2^-k", 1.01)]
    [InlineData("of rank 60", 1.01)]
    public void A_random_range_is_next_to_the_best(string spectrum, double most)
    {
        const int Rows = 800,
            Columns = 820,
            Rank = 80;
        var matrix = Doubles(Random("m", Rows, Columns));
        if (spectrum != "flat")
        {
            var u = Matrix<double>.Build.DenseOfRowMajor(Rows, 400, matrix[..(Rows * 400)]).QR().Q;
            var v = Matrix<double>.Build.DenseOfRowMajor(Columns, 400, Doubles(Random("v", Columns, 400))).QR().Q;
            for (var k = 0; k < 400; k++)
                u.SetColumn(k, u.Column(k) * (spectrum == "2^-k" ? Math.Pow(2, -k) : Convert.ToDouble(k < 60)));
            matrix = (u * v.Transpose()).ToRowMajorArray();
        }
        var values = Matrix<double>.Build.DenseOfRowMajor(Rows, Columns, matrix).Svd(computeVectors: false).S;
        var found = LowRank.Of(matrix, Rows, Columns, Rank, 1, CancellationToken.None);
        var product = new double[matrix.Length];
        MatrixProduct.Multiply(-1, found.Left, false, found.Right, false, matrix, product, Rows, found.Rank, Columns);
        var error = Math.Sqrt(product.Sum(x => x * x));
        var best = Math.Sqrt(values.Skip(Rank).Sum(s => s * s));
        Assert.InRange(error, 0, most * best + 1e-6 * values[0]);
    }

    [Fact]
    public async Task Ranks_shared_by_the_model_lose_less_than_one_ratio_for_every_layer()
    {
        using var folder = new Folder();
        var (model, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var layer = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {ratio: 0.5}\n", data);
        var shared = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {ratio: 0.5, scope: global}\n", data);
        Assert.True(shared.Report.Size.Ratio <= layer.Report.Size.Ratio);
        Assert.True(shared.Report.Fidelity.RelativeError < 0.7 * layer.Report.Fidelity.RelativeError, $"{shared.Report.Fidelity}");
        Assert.True(shared.Report.Notes.ContainsKey("allocation"));
    }

    [Fact]
    public async Task A_budget_of_multiply_accumulates_is_kept_by_ranks_that_lose_less_than_one_ratio()
    {
        using var folder = new Folder();
        var (model, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var recipe = "version: 1\nbudget: {maxMacRatio: 0.6}\nsteps:\n- factorize: {scope: global}\n";
        var shared = await Compressed.RunAsync(folder, model, recipe, data);
        var before = Count(model);
        var counted = Assert.IsType<ReportMultiplyAccumulates>(shared.Report.MultiplyAccumulates);
        Assert.Equal(before, counted.Before);
        Assert.Equal(Count(shared.File), counted.After);
        Assert.InRange((double)counted.After / before, 0.55, 0.6);
        Assert.True(shared.Report.Budget!.Met);
        // One ratio for all layers takes as many, and one share of the energy more.
        var ratio = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {ratio: 0.6}\n", data);
        var energy = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {energy: 0.7}\n", data);
        foreach (var other in new[] { ratio, energy })
        {
            Assert.True(Count(other.File) >= 0.99 * counted.After, $"{Count(other.File)} {counted.After}");
            Assert.True(
                shared.Report.Fidelity.RelativeError < other.Report.Fidelity.RelativeError,
                $"{shared.Report.Fidelity} {other.Report.Fidelity}"
            );
        }

        // A sample is one row: each Gemm takes as many as its matrix has elements.
        static long Count(string file)
        {
            var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(file)).Graph;
            var sizes = graph.Initializer.ToDictionary(t => t.Name, t => t.Dims.Aggregate(1L, (a, b) => a * b));
            return graph.Node.Where(n => n.OpType == "Gemm").Sum(n => sizes[n.Input[1]]);
        }
    }

    [Theory]
    [InlineData("MatMul")]
    [InlineData("Gemm")]
    [InlineData("Gemm transB")]
    [InlineData("Conv")]
    public async Task Two_operators_compute_what_one_with_the_product_would(string op)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(op), "version: 1\nsteps:\n- factorize: {rank: 12}\n");
        var (w, dims) = Weight(op);
        var (rows, columns) = ((int)dims[0], w.Length / (int)dims[0]);
        var svd = Matrix<double>.Build.DenseOfRowMajor(rows, columns, Doubles(w)).Svd();
        var near =
            svd.U.SubMatrix(0, rows, 0, 12)
            * Matrix<double>.Build.DenseOfDiagonalVector(svd.S.SubVector(0, 12))
            * svd.VT.SubMatrix(0, 12, 0, columns);
        var product = near.ToRowMajorArray().Select(v => (float)v).ToArray();
        var (expected, _) = Lowered.Run(
            Google.Protobuf.MessageExtensions.ToByteArray(Net(op, product)),
            Path.Combine(folder.Path, "e.onnx")
        );
        var (actual, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, 1e-4));
        Assert.Equal(2, graph.Graph.Node.Count(n => n.OpType.Contains("MatMul") || n.OpType.Contains("Gemm") || n.OpType.Contains("Conv")));
        var factors = done.Report.Layers.Where(l => l.Rank == 12).ToList();
        Assert.Equal(12 * (rows + columns), factors.Sum(l => l.Shape.Aggregate(1L, (a, b) => a * b)));
        Assert.Equal(w.Length * 4, factors.Sum(l => l.BytesBefore));
        Assert.True(done.Report.Size.Ratio < 0.7, $"{done.Report.Size}");
    }

    [Fact]
    public async Task Factors_are_layers_for_the_steps_behind()
    {
        using var folder = new Folder();
        var recipe =
            "version: 1\nsteps:\n- factorize: {energy: 0.8}\n- prune: {sparsity: 0.25}\n- quantize: {bits: 8, protect: 0}\n"
            + "layers:\n- {match: \"*/2\", bits: 4}\n";
        var done = await Compressed.RunAsync(folder, Net("MatMul"), recipe);
        string[] steps = ["factorize: svd", "prune: magnitude", "quantize: rtn"];
        Assert.All(done.Report.Layers, l => Assert.Equal(steps, l.Steps));
        Assert.Equal([8, 4], done.Report.Layers.OrderBy(l => l.Name, StringComparer.Ordinal).Select(l => l.Bits));
        Assert.All(done.Report.Layers, l => Assert.Equal(0.25, l.Sparsity, 0.05));
        var rank = done.Report.Layers[0].Rank!.Value;
        var values = Matrix<double>.Build.DenseOfRowMajor(96, 80, Doubles(Random("w", 96, 80))).Svd().S.Select(s => s * s).ToArray();
        Assert.True(values.Take(rank).Sum() >= 0.8 * values.Sum() && values.Take(rank - 1).Sum() < 0.8 * values.Sum());
        var resolved = RecipeReader.Read(await File.ReadAllTextAsync(Path.Combine(Path.GetDirectoryName(done.File)!, "recipe.yaml")), "r");
        Assert.Equal(["simplify", "factorize", "prune", "quantize"], resolved.Steps.Select(s => s.Step));
    }

    [Fact]
    public async Task What_would_be_no_smaller_stays_and_says_so()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net("MatMul"), "version: 1\nsteps:\n- factorize: {rank: 60}\n- quantize: {bits: 8}\n");
        Assert.Equal(["quantize: rtn"], Assert.Single(done.Report.Layers).Steps);
        var all = await Compressed.RunAsync(folder, Net("MatMul"), "version: 1\nsteps:\n- factorize: {energy: 0.9999}\n");
        Assert.Null(Assert.Single(all.Report.Layers).Rank);
        Assert.Equal(96, all.Report.Layers[0].Shape[0]);
    }

    [Theory]
    [InlineData("- factorize: {rank: 4, energy: 0.5}\n", "give one of 'ratio', 'energy' and 'rank'")]
    [InlineData("- prune: {}\n- factorize: {}\n", "put 'factorize' in front of 'prune'")]
    [InlineData("- quantize: {}\n- factorize: {}\n", "put it in front of 'quantize'")]
    [InlineData("- factorize: {}\n- factorize: {}\n", "two 'factorize' steps")]
    public void What_makes_no_sense_is_refused(string steps, string why) =>
        Assert.Contains(
            why,
            Assert.Throws<BadInputException>(() => RecipeReader.Read($"version: 1\nsteps:\n{steps}", "recipe.yaml")).Message
        );

    private static (float[] Values, long[] Dims) Weight(string op)
    {
        long[] dims = op switch
        {
            "Gemm transB" => [80, 96],
            "Conv" => [80, 96, 1, 1],
            _ => [96, 80],
        };
        return (Random("w", dims), dims);
    }

    private static ModelProto Net(string op, float[]? values = null)
    {
        var (own, dims) = Weight(op);
        var model = OfOpset(17).Initializer(Tensor("w", values ?? own, dims)).Weight("c", 80);
        var node = op switch
        {
            "MatMul" => Node("MatMul", ["x", "w"], ["y"]),
            "Conv" => Node(
                "Conv",
                ["x", "w", "c"],
                ["y"],
                ModelEdit.Attribute("strides", 2L, 2L),
                ModelEdit.Attribute("pads", 1L, 0L, 1L, 0L)
            ),
            _ => Node(
                "Gemm",
                ["x", "w", "c"],
                ["y"],
                ModelEdit.Attribute("alpha", 0.5f),
                ModelEdit.Attribute("beta", 2f),
                ModelEdit.Attribute("transB", op == "Gemm" ? 0L : 1)
            ),
        };
        return (op == "Conv" ? model.Input("x", DataType.Float, 1, 96, 7, 5) : model.Input("x", DataType.Float, 3, 96))
            .With(node)
            .Output("y");
    }

    private static double[] Doubles(float[] values) => Array.ConvertAll(values, v => (double)v);

    // Singular values 1, 1/2, 1/4 and so on.
    private static double[] FallingOff(int rows, int columns, int terms)
    {
        var u = Matrix<double>.Build.DenseOfRowMajor(rows, terms, Doubles(Random("u", rows, terms))).QR().Q;
        var v = Matrix<double>.Build.DenseOfRowMajor(columns, terms, Doubles(Random("v", columns, terms))).QR().Q;
        var s = Matrix<double>.Build.DenseOfDiagonalArray([.. Enumerable.Range(0, terms).Select(k => Math.Pow(0.5, k))]);
        return (u * s * v.Transpose()).ToRowMajorArray();
    }

    // Names that a factor would take are taken: as of a model that was factorized before.
    [Fact]
    public async Task Factors_find_names_of_their_own()
    {
        using var folder = new Folder();
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        var gemms = model.Graph.Node.Where(n => n.OpType == "Gemm").ToList();
        (gemms[0].Name, gemms[1].Name, gemms[2].Name) = ("a/1", "a", "b");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {ratio: 0.5}\n");
        Assert.Equal(6, done.Report.Layers.Count(l => l.Rank is not null));
    }

    [Fact]
    public async Task A_step_that_does_nothing_with_a_layer_is_told_with_the_reason_and_a_rule_for_a_factorized_layer_is_used()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(
            folder,
            Path.Combine(RealModels.Digits, "digits.onnx"),
            "version: 1\nsteps:\n- factorize: {ratio: 0.6}\n- prune: {}\n- quantize: {bits: 4}\nlayers:\n"
                + "- {match: fc1.weight, factorize: {rank: 8}}\n- {match: fc2.weight, factorize: {rank: 4}}\n"
        );
        var layers = done.Report.Layers.ToDictionary(l => l.Name);
        Assert.Equal(8, layers["fc1.weight/1"].Rank);
        var small = Assert.Single(layers["fc3.weight/2"].NotApplied);
        Assert.Equal("quantize: rtn", small.Step);
        Assert.Contains("too small to gain", small.Reason, StringComparison.Ordinal);
        Assert.DoesNotContain(done.Report.Warnings, w => w.Contains("No layer matches", StringComparison.Ordinal));
    }
}
