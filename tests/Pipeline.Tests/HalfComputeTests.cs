using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Graphs that compute in float16.</summary>
public class HalfComputeTests
{
    private const string Recipe = "version: 1\nsteps:\n- quantize: {method: float16, compute: true}\n";

    [Theory]
    [InlineData("ch_PP-OCRv4_det_infer", 0.02)]
    [InlineData("ch_PP-OCRv4_rec_infer", 0.02)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", 0.02)]
    [InlineData("silero_vad_v5", 0.02)]
    public async Task Real_models_compute_in_float16_and_put_out_what_they_did(string name, double most)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, RealModels.File(name), Recipe);
        var (model, types) = Typed(done.File);
        Assert.True(done.Report.Fidelity.RelativeError < most, done.Report.Fidelity.ToString());
        if (name.StartsWith("ch_", StringComparison.Ordinal))
            Assert.All(model.Graph.Node.Where(n => n.OpType == "Conv"), n => Assert.Equal(DataType.Float16, types[n.Output[0]]));
        var before = ModelProto.Parser.ParseFrom(File.ReadAllBytes(RealModels.File(name)));
        Assert.Equal(
            before.Graph.Output.Select(o => o.Type.TensorType.ElemType),
            model.Graph.Output.Select(o => o.Type.TensorType.ElemType)
        );
    }

    [Fact]
    public async Task Sums_and_layers_near_the_largest_float16_stay_in_float32()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 4, 64)
            .Weight("small", 64, 64)
            .Weight("large", 64, 64)
            .Weight("skipped", 64, 64)
            .Initializer(Tensor("much", [2e6f], 1))
            .With(
                Node("MatMul", ["x", "small"], ["a"]),
                Node("Softmax", ["a"], ["s"]),
                Node("MatMul", ["s", "skipped"], ["b"]),
                Node("Mul", ["b", "much"], ["m"]),
                Node("MatMul", ["m", "large"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, Recipe + "layers:\n- {match: skipped, skip: true}\n");
        var (written, types) = Typed(done.File);
        DataType Of(int matMul) => types[written.Graph.Node.Where(n => n.OpType == "MatMul").ElementAt(matMul).Output[0]];
        Assert.Equal((DataType.Float16, DataType.Float, DataType.Float), (Of(0), Of(1), Of(2)));
        Assert.Equal(DataType.Float, types[written.Graph.Node.Single(n => n.OpType == "Softmax").Output[0]]);
        Assert.True(done.Report.Fidelity.RelativeError < 0.01, done.Report.Fidelity.ToString());
    }

    // What a value's type is, told by the casts and weights around it.
    private static (ModelProto Model, Dictionary<string, DataType> Types) Typed(string file)
    {
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(file));
        var types = model.Graph.Initializer.ToDictionary(t => t.Name, t => (DataType)t.DataType);
        foreach (var v in model.Graph.Input)
            types[v.Name] = (DataType)v.Type.TensorType.ElemType;
        foreach (var n in model.Graph.Node)
            types[n.Output[0]] =
                n.OpType == "Cast"
                    ? (DataType)n.Attribute.First(a => a.Name == "to").I
                    : n.Input.Select(i => types.GetValueOrDefault(i)).FirstOrDefault(t => t is DataType.Float or DataType.Float16);
        return (model, types);
    }
}
