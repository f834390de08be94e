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
    public async Task Convolutions_one_behind_the_other_compute_what_one_with_their_product_does(
        string by,
        string attributes,
        long[] kernel
    )
    {
        using var folder = new Folder();
        var model = Net(kernel, Attributes(attributes, kernel.Length));
        var done = await Compressed.RunAsync(folder, model.Clone(), $"version: 1\nsteps:\n- factorize: {{ratio: 0.4, by: {by}}}\n");
        var made = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File));
        var factors = Factors(made);
        Assert.Equal(
            by == "tucker" ? 3
                : by == "best" ? factors.Count
                : 2,
            factors.Count
        );
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
        var done = await Compressed.RunAsync(folder, Net([3, 3], []), $"version: 1\nsteps:\n- factorize: {{rank: {Rank}, by: {by}}}\n");
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
            _ => [Factor("a", 5, Inputs, 1, 1), Factor("b", 9, 5, 3, 3), Factor("c", Outputs, 9, 1, 1)],
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

    // Of inputs that are alike: whatever the split, its factors fitted to the outputs lose less of them than those of the weights alone.
    [Theory]
    [InlineData("output")]
    [InlineData("input")]
    [InlineData("space")]
    [InlineData("tucker")]
    [InlineData("best")]
    public async Task Fitted_to_outputs_every_split_loses_less_of_them(string by)
    {
        using var folder = new Folder();
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [32, Inputs, 11, 12], MemoryMarshal.AsBytes<float>(Mixed(32, 11 * 12)).ToArray()));
        var model = Net([3, 3], [], batch: 1);
        Task<Compressed> Of(string method) =>
            Compressed.RunAsync(
                folder,
                model.Clone(),
                $"version: 1\nsteps:\n- factorize: {{method: {method}, ratio: 0.3, by: {by}}}\n",
                data
            );
        var (svd, drone) = (await Of("svd"), await Of("drone"));
        var made = Factors(ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(drone.File)));
        Assert.True(made.Sum(f => f.RawData.Length) <= 0.3 * 4 * Outputs * Inputs * 9);
        Assert.True(
            drone.Report.Fidelity.RelativeError < 0.8 * svd.Report.Fidelity.RelativeError,
            $"{drone.Report.Fidelity} {svd.Report.Fidelity}"
        );
    }

    // Few channels come out of the detector's 3×3 convolutions, and many go in.
    [Theory]
    [InlineData("svd", 0.8)]
    [InlineData("drone", 0.9)]
    public async Task The_best_split_of_the_detectors_kernels_loses_less_than_the_one_by_output(string method, double share)
    {
        var detector = RealModels.File("ch_PP-OCRv4_det_infer");
        using var folder = new Folder();
        string[] kernels = ["138", "144", "150", "156", "159"];
        var rules = string.Concat(kernels.Select(n => $"- {{match: conv2d_{n}.w_0, skip: false}}\n"));
        Task<Compressed> Of(string by) =>
            Compressed.RunAsync(
                folder,
                detector,
                $"version: 1\nsteps:\n- factorize: {{method: {method}, ratio: 0.5, by: {by}}}\n"
                    + $"layers:\n- {{match: \"*\", skip: true}}\n{rules}"
            );
        var (output, best) = (await Of("output"), await Of("best"));
        Assert.True(best.Report.Size.Ratio < output.Report.Size.Ratio + 0.005);
        Assert.True(
            best.Report.Fidelity.RelativeError < share * output.Report.Fidelity.RelativeError,
            $"{best.Report.Fidelity} {output.Report.Fidelity}"
        );
        if (method == "drone")
            return;
        var errors = output.Report.Layers.Where(l => l.Rank > 0).ToDictionary(l => l.Name, l => l.Error);
        Assert.Equal(2 * kernels.Length, errors.Count);
        Assert.All(best.Report.Layers.Where(l => errors.ContainsKey(l.Name)), l => Assert.True(l.Error <= errors[l.Name] + 1e-6, l.Name));
    }

    // A weight that convolutions of other strides share, one of them in a branch.
    [Theory]
    [InlineData("input", 9)]
    [InlineData("space", 11)]
    [InlineData("tucker", 13)]
    public async Task Every_use_of_a_weight_gets_its_own_convolutions(string by, int opset)
    {
        using var folder = new Folder();
        var branch = new GraphProto { Name = "then" };
        branch.Node.Add(
            Node("Conv", ["x", "w"], ["t"], ModelEdit.Attribute("strides", 1L, 2L), ModelEdit.Attribute("pads", 1L, 1L, 1L, 1L))
        );
        branch.Output.Add(Value("t", DataType.Float, 1, Outputs, 8, 4));
        var other = branch.Clone();
        (other.Name, other.Node[0].Output[0], other.Output[0].Name) = ("else", "e", "e");
        var model = OfOpset(opset)
            .Input("x", DataType.Float, 1, Inputs, 8, 8)
            .Weight("w", Outputs, Inputs, 3, 3)
            .Initializer(Tensor("always", DataType.Bool, [1]))
            .With(
                Node("Conv", ["x", "w"], ["z"], ModelEdit.Attribute("strides", 1L, 2L), ModelEdit.Attribute("pads", 1L, 1L, 1L, 1L)),
                Node("If", ["always"], ["b"], Subgraph("then_branch", branch), Subgraph("else_branch", other)),
                Node("Add", ["z", "b"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model.Clone(), $"version: 1\nsteps:\n- factorize: {{ratio: 0.4, by: {by}}}\n");
        var made = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File));
        Assert.True(Factors(made).Count > 1);
        Put(model, "w", KernelProduct.Of(Factors(made)));
        var (expected, _) = Lowered.Run(Google.Protobuf.MessageExtensions.ToByteArray(model), Path.Combine(folder.Path, "e.onnx"));
        var (actual, _) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, 1e-4));
    }

    // Channels are mixtures of four, and pixels next to one another are alike.
    private static float[] Mixed(int samples, int pixels)
    {
        var (mix, noise) = (Random("mix", Inputs, 4), Random("noise", samples, Inputs, pixels));
        var source = Random("source", samples, 4, pixels);
        var values = new float[samples * Inputs * pixels];
        for (var at = 0; at < values.Length; at++)
        {
            var (sample, channel, pixel) = (at / pixels / Inputs, at / pixels % Inputs, at % pixels);
            values[at] = 0.1f * noise[at];
            for (var s = 0; s < 4; s++)
            for (var near = Math.Max(0, pixel - 1); near <= pixel; near++)
                values[at] += 10 * mix[channel * 4 + s] * source[(sample * 4 + s) * pixels + near];
        }
        return values;
    }

    // Of the main graph alone.
    private static List<TensorProto> Factors(ModelProto model) =>
        [.. model.Graph.Node.Where(n => n.OpType == "Conv").Select(n => model.Graph.Initializer.Single(t => t.Name == n.Input[1]))];

    private static TensorProto Factor(string name, params long[] dims) => Tensor(name, Random(name, dims), dims);

    private static void Put(ModelProto model, string name, float[] values) =>
        model.Graph.Initializer.Single(t => t.Name == name).RawData = Google.Protobuf.ByteString.CopyFrom(
            MemoryMarshal.AsBytes<float>(values)
        );

    private static ModelProto Net(long[] kernel, AttributeProto[] attributes, int batch = 2)
    {
        long[] pixels = [11, 12, 7];
        return OfOpset(11)
            .Input("x", DataType.Float, [batch, Inputs, .. pixels.Take(kernel.Length).Select(p => (object)p)])
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
