using System.Collections.Concurrent;
using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// The statistics of the value between two factors, which follow from those of the first one's input, against observed ones.
/// </summary>
public class LinearOutputTests
{
    private const int Rank = 9,
        Inputs = 40;
    private static int keys;

    static LinearOutputTests() => Technique.Register(typeof(LinearOutputTests).Assembly);

    [Theory]
    [InlineData("MatMul")]
    [InlineData("MatMul twice")]
    [InlineData("MatMul beside")]
    [InlineData("Gemm")]
    [InlineData("Gemm transB")]
    [InlineData("Conv")]
    public async Task The_gram_matrix_between_two_factors_is_what_is_observed_there(string op)
    {
        using var folder = new Folder();
        var steps = $"- factorize: {{rank: {Rank}}}\n";
        var (derived, observed) = (await LookAsync(folder, Net(op), steps, false), await LookAsync(folder, Net(op), steps, true));
        // The first factor's input is observed, the second's follows from it: its range is not known.
        Assert.Equal(op == "MatMul beside" ? [Inputs, Inputs, Rank, Rank] : [Inputs, Rank], derived.Select(s => s.Input.GramAxis));
        Assert.All(derived, s => Assert.Equal(s.Input.GramAxis == Inputs, s.Input.Max > 0));
        Assert.All(observed, s => Assert.True(s.Input.Max > 0));
        foreach (var ((d, derivedGram), (o, observedGram)) in derived.Zip(observed))
        {
            Assert.Equal((o.Samples, o.GramRows, o.GramGroups), (d.Samples, d.GramRows, d.GramGroups));
            var largest = observedGram.Max(Math.Abs);
            Assert.All(observedGram.Zip(derivedGram), p => Assert.Equal(p.First, p.Second, 1e-5 * largest));
        }
    }

    [Theory]
    [InlineData("- factorize: {rank: 9}\n", "layers:\n- {match: \"w/1\", skip: true}\n")]
    [InlineData("", "")]
    public async Task An_input_is_observed_where_no_factor_whose_own_input_is_observed_makes_it(string steps, string rules)
    {
        using var folder = new Folder();
        var looked = await LookAsync(folder, Net("MatMul"), steps, false, rules);
        Assert.All(looked, s => Assert.True(s.Input.Max > 0));
        Assert.Single(looked);
    }

    [Theory]
    [InlineData("MatMul", true)]
    [InlineData("MatMul MatMul beside", true)]
    [InlineData("Conv strided", true)]
    [InlineData("Conv 3×3 behind", false)]
    [InlineData("Relu", false)]
    [InlineData("bias", false)]
    [InlineData("alpha", false)]
    public void An_output_is_linear_where_nothing_but_the_weight_makes_it(string what, bool linear)
    {
        var conv = what.StartsWith("Conv", StringComparison.Ordinal);
        long[] Dims(long kernel) => conv ? [8, 8, kernel, kernel] : [8, 8];
        var model = OfOpset(17)
            .Weight("c", 8)
            .Weight("a", Dims(1))
            .Weight("b", Dims(what.EndsWith("behind", StringComparison.Ordinal) ? 3 : 1));
        model = conv ? model.Input("x", DataType.Float, 1, 8, 6, 6) : model.Input("x", DataType.Float, 3, 8);
        var op = conv ? "Conv" : "MatMul";
        model.With(
            what switch
            {
                "bias" => Node("Gemm", ["x", "a", "c"], ["z"]),
                "alpha" => Node("Gemm", ["x", "a"], ["z"], ModelEdit.Attribute("alpha", 0.5f)),
                "Relu" => Node("MatMul", ["x", "a"], ["h"]),
                "Conv strided" => Node("Conv", ["x", "a"], ["z"], ModelEdit.Attribute("strides", 2L, 2L)),
                _ => Node(op, ["x", "a"], ["z"]),
            }
        );
        if (what == "Relu")
            model.With(Node("Relu", ["h"], ["z"]));
        if (what.EndsWith("beside", StringComparison.Ordinal))
            model.With(Node("Tanh", ["z"], ["t"])).Output("t");
        var weights = Weight.Of(model.With(Node(op, ["z", "b"], ["y"])).Output("y")).ToDictionary(w => w.Name);
        var (views, why) = InputView.Of(weights["b"], LayerShape.Of(weights["b"]));
        Assert.Null(why);
        Assert.Equal(linear ? "a" : null, new LinearOutputs(weights.Values).Maker(views)?.Name);
    }

    [Fact]
    public async Task Gptq_behind_svd_loses_as_much_as_with_observed_statistics()
    {
        using var folder = new Folder();
        var (model, data) = (Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(RealModels.Digits, "data.npz"));
        var (derived, observed) = (await RunAsync(false), await RunAsync(true));
        Assert.Equal(observed.Report.Size.After, derived.Report.Size.After);
        var ratio = derived.Report.Fidelity.RelativeError!.Value / observed.Report.Fidelity.RelativeError!.Value;
        Assert.True(ratio is > 0.99 and < 1.01, $"{derived.Report.Fidelity} derived, {observed.Report.Fidelity} observed");

        Task<Compressed> RunAsync(bool range) =>
            Compressed.RunAsync(folder, model, Looking("- factorize: {energy: 0.9}\n", range, 0), data);
    }

    private static string Looking(string steps, bool range, int key) =>
        $"version: 1\nsteps:\n{steps}- look: {{range: {(range ? "true" : "false")}, key: {key}}}\n"
        + "- quantize: {method: gptq, bits: 4, protect: 0}\n";

    // The inputs of the layers, the wider first, those of a width by their first element.
    private static async Task<List<(InputStatistics Input, double[] Gram)>> LookAsync(
        Folder folder,
        ModelProto model,
        string steps,
        bool range,
        string rules = ""
    )
    {
        var key = Interlocked.Increment(ref keys);
        await Compressed.RunAsync(folder, model, Looking(steps, range, key) + rules);
        return
        [
            .. Look
                .Seen.Where(s => s.Key == key)
                .Select(s => (s.Input, s.Gram))
                .OrderByDescending(s => s.Input.GramAxis)
                .ThenBy(s => s.Gram[0]),
        ];
    }

    private static ModelProto Net(string op)
    {
        var outputs = op == "MatMul twice" ? Inputs : 48;
        long[] dims = op switch
        {
            "Conv" => [outputs, Inputs, 1, 1],
            "Gemm transB" => [outputs, Inputs],
            _ => [Inputs, outputs],
        };
        var model = OfOpset(17).Initializer(Tensor("w", Random("w", dims), dims)).Weight("c", outputs);
        model = op == "Conv" ? model.Input("x", DataType.Float, 2, Inputs, 4, 3) : model.Input("x", DataType.Float, 3, Inputs);
        if (op == "MatMul beside")
            model.Weight("v", Inputs, outputs);
        NodeProto[] nodes = op switch
        {
            "MatMul" => [Node("MatMul", ["x", "w"], ["y"])],
            "MatMul twice" => [Node("MatMul", ["x", "w"], ["h"]), Node("Relu", ["h"], ["r"]), Node("MatMul", ["r", "w"], ["y"])],
            "MatMul beside" => [Node("MatMul", ["x", "w"], ["u"]), Node("MatMul", ["x", "v"], ["t"]), Node("Add", ["u", "t"], ["y"])],
            "Conv" =>
            [
                Node("Conv", ["x", "w", "c"], ["y"], ModelEdit.Attribute("strides", 2L, 2L), ModelEdit.Attribute("pads", 1L, 0L, 1L, 2L)),
            ],
            _ =>
            [
                Node(
                    "Gemm",
                    ["x", "w", "c"],
                    ["y"],
                    ModelEdit.Attribute("alpha", 0.5f),
                    ModelEdit.Attribute("transB", op == "Gemm" ? 0L : 1)
                ),
            ],
        };
        return model.With(nodes).Output("y");
    }

    /// <summary>Options of <see cref="Look"/>.</summary>
    public sealed record LookOptions
    {
        /// <summary>Whether the range of the input is wanted too (default false).</summary>
        public bool Range { get; init; }

        /// <summary>What the statistics are kept under (default 0).</summary>
        [Range(0, int.MaxValue)]
        public int Key { get; init; }
    }

    /// <summary>Leaves a weight as it is, and keeps the statistics of its input.</summary>
    public sealed class Look : LayerTechnique<LookOptions>
    {
        public static ConcurrentBag<(int Key, InputStatistics Input, double[] Gram)> Seen { get; } = [];

        public override string Step => "look";

        public override string About => "Statistics are kept.";

        public override bool LeavesDense => true;

        protected override StatisticKinds Needs(LookOptions options) =>
            options.Range ? StatisticKinds.Gram | StatisticKinds.Range : StatisticKinds.Gram;

        protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, LookOptions options) =>
            new(FormName.Dense, 32, 1, weight.Reference.Length, 1 << 20);

        protected override async Task<EncodedLayer> CompressAsync(
            LayerWork work,
            LookOptions options,
            Stream shard,
            CancellationToken cancellation
        )
        {
            var values = new float[work.Weight.Elements];
            await work.Weight.ReadAsync(0, values, cancellation);
            await shard.WriteAsync(MemoryMarshal.AsBytes(values.AsSpan()).ToArray(), cancellation);
            if (options.Key > 0)
                Seen.Add((options.Key, work.Input!, await work.Input!.ReadGramAsync!(0, cancellation)));
            return EncodedLayer.OfFloats(FormName.Dense, work.Shape, (int)DataType.Float, values.Length * 4L, 0, values.Length);
        }
    }
}
