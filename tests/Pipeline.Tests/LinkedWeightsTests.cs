using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>A model whose files are links into other folders, as caches keep them, runs in ranges and in segments.</summary>
public class LinkedWeightsTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Files_behind_links_are_read(bool segments)
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 2, 64)
            .Weight("a", 64, 64)
            .Weight("b", 64, 64)
            .With(Node("MatMul", ["x", "a"], ["h"]), Node("MatMul", ["h", "b"], ["y"]))
            .Output("y");
        var file = folder.Write("blobs/0a1b", model);
        var snapshot = Directory.CreateDirectory(Path.Combine(folder.Path, "snapshot")).FullName;
        File.CreateSymbolicLink(Path.Combine(snapshot, "model.onnx"), "../blobs/0a1b");
        var index = await ModelIndexer.IndexAsync(folder.Store, "drop/snapshot/model.onnx", default);
        using var linked = new ModelRunner(
            snapshot,
            index,
            wholeLimit: segments ? 0 : long.MaxValue,
            segmentLimit: 1 << 14,
            inRanges: true
        );
        Assert.Equal(segments ? 2 : 1, linked.Segments);
        using var direct = new ModelRunner(
            Path.GetDirectoryName(file)!,
            await ModelIndexer.IndexAsync(folder.Store, "drop/blobs/0a1b", default)
        );
        var sample = SyntheticSamples.Make(direct, index, 0, 1, default).Single();
        Assert.Equal(direct.Run([sample], default)[0].Outputs["y"].Bytes, linked.Run([sample], default)[0].Outputs["y"].Bytes);
    }
}
