using Google.Protobuf;
using MathNet.Numerics.LinearAlgebra;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Chains of up to three layer steps on random small graphs: the model that ONNX Runtime runs equals the chain computed on dense weights in
/// double precision.
/// </summary>
public class ChainPropertyTests
{
    private const int Rank = 9;
    private const double Sparsity = 0.4;

    private static readonly string[][] Chains =
    [
        ["prune"],
        ["factorize"],
        ["quantize"],
        ["prune", "quantize"],
        ["factorize", "prune"],
        ["factorize", "quantize"],
        ["factorize", "prune", "quantize"],
    ];

    public static TheoryData<int> Seeds => [.. Enumerable.Range(0, 21)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public async Task The_model_computes_what_the_chain_makes_of_its_weights(int seed)
    {
        using var folder = new Folder();
        var random = new Random(seed);
        var chain = Chains[seed % Chains.Length];
        var (dims, build) = Graph(random);
        var weights = Random($"w{seed}", dims);
        var steps = string.Concat(chain.Select(s => $"- {Written(s)}\n"));
        var done = await Compressed.RunAsync(folder, build(weights), $"version: 1\nsteps:\n{steps}");
        var (actual, _) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));

        var (rows, columns) = ((int)dims[0], weights.Length / (int)dims[0]);
        var (reference, uncertainty) = Reference(weights, rows, columns, chain);
        var (expected, _) = Lowered.Run(build(reference).ToByteArray(), Path.Combine(folder.Path, "e.onnx"));
        var scale = expected.Max(Math.Abs);
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, Math.Max(1e-4, uncertainty) * scale));
        Assert.All(done.Report.Layers, l => Assert.Equal(chain.Length, l.Steps.Count));
        if (chain.Contains("prune"))
            Assert.All(done.Report.Layers, l => Assert.InRange(l.Sparsity, Sparsity - 0.05, Sparsity + 0.1));
        if (chain.Contains("factorize"))
            Assert.All(done.Report.Layers, l => Assert.Equal(Rank, l.Rank));
    }

    private static string Written(string step) =>
        step switch
        {
            "prune" => FormattableString.Invariant($"prune: {{sparsity: {Sparsity}}}"),
            "factorize" => $"factorize: {{rank: {Rank}}}",
            _ => "quantize: {bits: 16, protect: 0}",
        };

    // Sixteen bits are so near that the rounding is within the tolerance. Two factors' weights are pruned apart.
    private static (float[] Weights, double Uncertainty) Reference(float[] weights, int rows, int columns, string[] chain)
    {
        var pruned = chain.Contains("prune");
        if (!chain.Contains("factorize"))
            return (Array.ConvertAll(pruned ? Prune(Doubles(weights)) : Doubles(weights), w => (float)w), 1e-3);
        var svd = Matrix<double>.Build.DenseOfRowMajor(rows, columns, Doubles(weights)).Svd();
        var root = Matrix<double>.Build.DenseOfDiagonalVector(svd.S.SubVector(0, Rank).PointwiseSqrt());
        var (left, right) = (svd.U.SubMatrix(0, rows, 0, Rank) * root, root * svd.VT.SubMatrix(0, Rank, 0, columns));
        if (pruned)
        {
            left = Matrix<double>.Build.DenseOfRowMajor(rows, Rank, Prune(left.ToRowMajorArray()));
            right = Matrix<double>.Build.DenseOfRowMajor(Rank, columns, Prune(right.ToRowMajorArray()));
        }
        return (Array.ConvertAll((left * right).ToRowMajorArray(), w => (float)w), 2e-3);
    }

    private static double[] Prune(double[] weights)
    {
        var count = (int)(Sparsity * weights.Length);
        var zero = Enumerable.Range(0, weights.Length).OrderBy(i => Math.Abs((float)weights[i])).ThenBy(i => i).Take(count).ToHashSet();
        return [.. weights.Select((w, i) => zero.Contains(i) ? 0 : w)];
    }

    private static double[] Doubles(float[] values) => Array.ConvertAll(values, v => (double)v);

    // One weight, used by one node, by two, or by one in each branch of an If.
    private static (long[] Dims, Func<float[], ModelProto> Build) Graph(Random random)
    {
        var opset = random.Next(11, 22);
        var op = random.Next(3) switch
        {
            0 => "MatMul",
            1 => "Gemm",
            _ => "Conv",
        };
        var (inputs, outputs) = (random.Next(30, 50), random.Next(30, 50));
        var (shared, branches) = (random.Next(3) == 0, random.Next(3) == 0);
        var transB = random.Next(2);
        if (shared)
            outputs = inputs;
        long[] dims = op switch
        {
            "Conv" => [outputs, inputs, 1, 1],
            "Gemm" when transB == 1 => [outputs, inputs],
            _ => [inputs, outputs],
        };
        return (dims, Build);

        NodeProto Product(string x, string y) =>
            op == "Gemm" ? Node(op, [x, "w"], [y], ModelEdit.Attribute("transB", (long)transB)) : Node(op, [x, "w"], [y]);

        ModelProto Build(float[] weights)
        {
            var model = OfOpset(opset).Initializer(Tensor("w", weights, dims));
            model = op == "Conv" ? model.Input("x", DataType.Float, 1, inputs, 4, 3) : model.Input("x", DataType.Float, 3, inputs);
            if (shared)
                model.With(Product("x", "h"), Product("h", "y"));
            else if (branches)
                model
                    .Input("n", DataType.Int64)
                    .Initializer(Tensor("one", DataType.Int64, BitConverter.GetBytes(1L)))
                    .With(
                        Node("Equal", ["n", "one"], ["c"]),
                        Node("If", ["c"], ["y"], Branch("then_branch", "a", negate: false), Branch("else_branch", "b", negate: true))
                    );
            else
                model.With(Product("x", "y"));
            return model.Output("y");
        }

        AttributeProto Branch(string name, string output, bool negate)
        {
            var graph = new GraphProto { Name = name };
            graph.Node.Add(Product("x", negate ? "p" : output));
            if (negate)
                graph.Node.Add(Node("Neg", ["p"], [output]));
            graph.Output.Add(Value(output, DataType.Float));
            return Subgraph(name, graph);
        }
    }
}
