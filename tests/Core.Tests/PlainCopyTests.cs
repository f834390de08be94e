using Serverless.Core.Model;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

public class PlainCopyTests
{
    [Fact]
    public async Task A_large_model_is_copied_from_and_the_copy_is_gone()
    {
        using var folder = new Folder();
        folder.Write(
            "m.onnx",
            OfOpset(17).Input("x", DataType.Float, 2, 64).Weight("a", 64, 64).With(Node("MatMul", ["x", "a"], ["y"])).Output("y")
        );
        var store = new FolderStore(
            new Dictionary<string, string> { ["drop"] = folder.Path, ["work"] = Path.Combine(folder.Path, "work") }
        );
        var index = await ModelIndexer.IndexAsync(store, "drop/m.onnx", default);
        Assert.True(await PlainCopy.MeasureAsync(store, index, "work/r", default, largeFrom: 0) > 0);
        await foreach (var left in store.ListAsync("work/", default))
            Assert.Fail(left.Path);
        Assert.Null(await PlainCopy.MeasureAsync(store, index, "work/r", default));
    }
}
