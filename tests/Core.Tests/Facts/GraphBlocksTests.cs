using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Blocks that can be left out.</summary>
public class GraphBlocksTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("minilm")]
    [InlineData("ch_PP-OCRv4_rec_infer")]
    [InlineData("ch_PP-OCRv4_det_infer")]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer")]
    [InlineData("silero_vad_v5")]
    public void Blocks_of_real_models(string name)
    {
        var model = ModelProto.Parser.ParseFrom(File.ReadAllBytes(
                        name == "minilm" ? Path.Combine(MiniLm.Fetch(RealModels.Repository)!, "model.onnx") : RealModels.File(name)));
        var blocks = GraphBlocks.Of(new GraphFacts(model), default);
        foreach (var b in blocks.All)
            output.WriteLine($"{b.Input} → {b.Output} {b.Kind} {b.Role} axis {b.Axis} {b.Nodes.Count} nodes {b.Constants.Count} constants {b.Lengths.Count} lengths");
        foreach (var r in blocks.Refused)
            output.WriteLine(r.ToString());
    }
}
