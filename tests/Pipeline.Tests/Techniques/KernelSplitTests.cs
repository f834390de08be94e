using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests.Techniques;

/// <summary>Splits of convolutions' kernels, against the product of the factors put into the original operator.</summary>
public class KernelSplitTests
{
    private const int Outputs = 24,
        Inputs = 16;

    public static TheoryData<string, string, long[]> Cases =>
        new(
            from split in new[] { "output", "input", "space", "tucker", "best" }
            from attributes in new[] { "none", "strides", "same", "lower", "dilations", "valid" }
            select (split, attributes, new long[] { 3, 5 })
        )
        {
            { "output", "strides", [4] },
            { "input", "strides", [4] },
            { "tucker", "dilations", [4] },
            { "input", "strides", [3, 2, 2] },
            { "tucker", "none", [3, 2, 2] },
        };

    // Whatever the strides, dilations and padding: convolutions by the factors compute what one by their product does.
    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Convolutions_one_behind_the_other_compute_what_one_with_their_product_does(string by, string attributes, long[] kernel)
    {
        using var folder = new Folder();
        var model = Net(kernel, Attributes(attributes, kernel.Length));
        var done = await Compressed.RunAsync(folder, model.Clone(), $"version: 1\nsteps:\n- factorize: {{ratio: 0.4, by: {by}}}\n");
        var made = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File));
        var factors = Factors(made);
        Assert.Equal(by == "tucker" ? 3 : by == "best" ? factors.Count : 2, factors.Count);
        Assert.True(factors.Sum(f => f.RawData.Length) <= 0.4 * 4 * Outputs * Inputs * kernel.Aggregate(1L, (a, b) => a * b));
        var product = KernelProduct.Of(factors);
        Put(model, "w", product);
        var (expected, _) = Lowered.Run(Google.Protobuf.MessageExtensions.ToByteArray(model), Path.Combine(folder.Path, "e.onnx"));
        var (actual, _) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.Equal(expected.Length, actual.Length);
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, 1e-4));
        var own = Random("w", [Outputs, Inputs, .. kernel]);
        var error = Math.Sqrt(own.Zip(product).Sum(p => Math.Pow(p.First - p.Second, 2)) / own.Sum(v => (double)v * v));
        Assert.Equal(error, done.Report.Layers.First(l => l.Rank > 0).Error, 1e-4);
    }

    // The matrix of each split, unfolded here by its definition, lacks of its singular values those behind the rank.
    [Theory]
    [InlineData("output")]
    [InlineData("input")]
    [InlineData("space")]
    public async Task A_split_is_the_nearest_of_its_rank(string by)
    {
        using var folder = new Folder();
        const int Rank = 9;
        var done = await Compressed.RunAsync(
            folder,
            Net([3, 3], []),
            $"version: 1\nsteps:\n- factorize: {{rank: {Rank}, by: {by}}}\n"
        );
        var w = Random("w", Outputs, Inputs, 3, 3);
        var best = new[] { true, false }.Min(down => Rest(down));
        var squares = w.Sum(v => (double)v * v);
        Assert.Equal(Math.Sqrt(best / squares), done.Report.Layers.First(l => l.Rank > 0).Error, 1e-5);

        double Rest(bool down)
        {
            var (a, b) = by switch
            {
                "output" => (9, 1),
                "input" => (1, 9),
                _ => (3, 3),
            };
            var matrix = Matrix<double>.Build.Dense(Inputs * a, Outputs * b);
            for (var o = 0; o < Outputs; o++)
            for (var i = 0; i < Inputs; i++)
            for (var k = 0; k < 9; k++)
            {
                var (first, second) = by switch
                {
                    "output" => (k, 0),
                    "input" => (0, k),
                    _ => down ? (k / 3, k % 3) : (k % 3, k / 3),
                };
                matrix[i * a + first, o * b + second] = w[(o * Inputs + i) * 9 + k];
            }
            return matrix.Svd(computeVectors: false).S.Skip(Rank).Sum(s => s * s);
        }
    }

    // A kernel that is a product along one split is found, to rounding, by it and by the best.
    [Theory]
    [InlineData("input")]
    [InlineData("space")]
    [InlineData("tucker")]
    public async Task The_best_split_is_the_one_that_the_kernel_has(string by)
    {
        using var folder = new Folder();
        var factors = by switch
        {
            "input" => new[] { Factor("a", 4, Inputs, 1, 1), Factor("b", Outputs, 4, 3, 3) },
            "space" => [Factor("a", 6, Inputs, 3, 1), Factor("b", Outputs, 6, 1, 3)],
            _ => [Factor("a", 5, Inputs, 1, 1), Factor("b", 6, 5, 3, 3), Factor("c", Outputs, 6, 1, 1)],
        };
        var model = Net([3, 3], []);
        Put(model, "w", KernelProduct.Of(factors));
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {ratio: 0.3}\n");
        Assert.True(done.Report.Layers.First(l => l.Rank > 0).Error < 1e-5, $"{done.Report.Layers.First(l => l.Rank > 0).Error}");
        var output = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {ratio: 0.3, by: output}\n");
        Assert.True(output.Report.Layers.First(l => l.Rank > 0).Error > 0.1);
        var energy = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- factorize: {energy: 0.9999}\n");
        Assert.True(energy.Report.Size.After < done.Report.Size.After + 64, $"{energy.Report.Size} {done.Report.Size}");
        Assert.True(energy.Report.Layers.First(l => l.Rank > 0).Error <= 0.0101);
    }

    [Fact]
    public async Task What_has_no_such_split_stays_and_says_so()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net([5], []), "version: 1\nsteps:\n- factorize: {by: space}\n- prune: {}\n");
        Assert.Contains("no two axes", Assert.Single(done.Report.Layers[0].NotApplied).Reason, StringComparison.Ordinal);
    }

    internal static List<TensorProto> Factors(ModelProto model) =>
        [.. model.Graph.Node.Where(n => n.OpType == "Conv").Select(n => model.Graph.Initializer.Single(t => t.Name == n.Input[1]))];

    private static TensorProto Factor(string name, params long[] dims) => Tensor(name, Random(name, dims), dims);

    private static void Put(ModelProto model, string name, float[] values) =>
        model.Graph.Initializer.Single(t => t.Name == name).RawData = Google.Protobuf.ByteString.CopyFrom(
            MemoryMarshal.AsBytes<float>(values)
        );

    private static ModelProto Net(long[] kernel, AttributeProto[] attributes)
    {
        long[] pixels = [11, 12, 7];
        return OfOpset(11)
            .Input("x", DataType.Float, [2, Inputs, .. pixels.Take(kernel.Length).Select(p => (object)p)])
            .Weight("w", [Outputs, Inputs, .. kernel])
            .Weight("c", Outputs)
            .With(Node("Conv", ["x", "w", "c"], ["y"], attributes))
            .Output("y");
    }

    private static AttributeProto[] Attributes(string name, int axes)
    {
        return name switch
        {
            "strides" => [Of("strides", 2, 1, 2), ModelEdit.Attribute("pads", [.. Three(1, 2, 0), .. new long[axes]])],
            "same" => [Text("auto_pad", "SAME_UPPER"), Of("strides", 2, 3, 1)],
            "lower" => [Text("auto_pad", "SAME_LOWER"), Of("strides", 1, 2, 1)],
            "valid" => [Text("auto_pad", "VALID")],
            "dilations" =>
            [
                Of("dilations", 2, 1, 1),
                ModelEdit.Attribute("pads", [.. Three(1, 2, 0), .. Three(2, 0, 1)]),
                Of("strides", 1, 2, 1),
            ],
            _ => [],
        };

        AttributeProto Of(string attribute, params long[] values) => ModelEdit.Attribute(attribute, [.. values.Take(axes)]);
        IEnumerable<long> Three(params long[] values) => values.Take(axes);
    }

    private static AttributeProto Text(string name, string value) =>
        new()
        {
            Name = name,
            S = Google.Protobuf.ByteString.CopyFromUtf8(value),
            Type = AttributeProto.Types.AttributeType.String,
        };
}
