using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Onnx.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Static int8 on the text detector and the direction classifier, judged on lines that were never calibrated on.</summary>
public class StaticTests
{
    [Theory]
    [InlineData("ch_PP-OCRv4_det_infer", 320, 0.985)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", 192, 0.96)]
    public async Task Convolutions_run_in_integer_kernels_and_decide_as_before(string name, int width, double least)
    {
        using var folder = new Folder();
        Assert.SkipWhen(TextLines.Fonts.Count == 0, "There are no TrueType fonts here to render text lines with.");
        var detector = name.Contains("det", StringComparison.Ordinal);
        var data = TextLines.WriteNpz(Path.Combine(folder.Path, "data.npz"), "x", seed: 3, count: 64, width, height: detector ? 96 : 48, turned: !detector);
        var done = await Compressed.RunAsync(folder, RealModels.File(name), "version: 1\nsteps:\n- quantize: {method: static, samples: 32}\n", data);
        Assert.Equal(("data", 32), (done.Report.Fidelity.Source, done.Report.Fidelity.Samples));
        Assert.True(done.Report.Fidelity.Top1Agreement >= least, done.Report.Fidelity.ToString());
        Assert.True(IntegerWork.Share(done.File, 96, width) >= 0.9, $"{IntegerWork.Share(done.File, 96, width)} of the convolutions' work is done by integer kernels");
    }

    [Theory]
    [InlineData(9)]
    [InlineData(10)]
    public async Task Old_operator_sets_are_raised_without_changing_what_the_graph_computes(int opset)
    {
        using var folder = new Folder();
        var model = Model(opset).Input("x", DataType.Float, 1, 3, 12, 12).Weight("w", 16, 3, 3, 3).Weight("v", 8, 16, 1, 1)
            .Initializer(Tensor("scales", [1, 1, 2, 2], 4))
            .With(
                Node("Pad", ["x"], ["p"], ModelEdit.Attribute("pads", 0L, 0L, 1L, 1L, 0L, 0L, 1L, 1L)),
                Node("Conv", ["p", "w"], ["c"]),
                Node("Clip", ["c"], ["r"], new AttributeProto { Name = "min", F = 0, Type = AttributeProto.Types.AttributeType.Float }, new AttributeProto { Name = "max", F = 6, Type = AttributeProto.Types.AttributeType.Float }),
                Node("Conv", ["r", "v"], ["d"]),
                Node(opset == 9 ? "Upsample" : "Resize", ["d", "scales"], ["u"]))
            .Output("y");
        if (opset == 9) model.With(Node("Slice", ["u"], ["y"], ModelEdit.Attribute("starts", 1L), ModelEdit.Attribute("ends", 20L), ModelEdit.Attribute("axes", 2L)));
        else model.With(Node("Identity", ["u"], ["y"]));
        foreach (var a in model.Graph.Node.SelectMany(n => n.Attribute).Where(a => a.Name is "starts" or "ends" or "axes"))
        {
            a.Ints.Add(a.I);
            a.ClearI();
            a.Type = AttributeProto.Types.AttributeType.Ints;
        }
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- quantize: {method: static}\n");
        Assert.All(done.Report.Layers.Where(l => l.Op == "Conv"), l => Assert.Equal("Qdq", l.Form));
        Assert.True(done.Report.Fidelity.Cosine > 0.998, done.Report.Fidelity.ToString());
    }
}
