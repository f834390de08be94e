using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

public class FunctionExpansionTests
{
    [Theory]
    [InlineData(10, true)]
    [InlineData(40, false)]
    public async Task Functions_that_double_are_refused_once_they_are_too_many(int doublings, bool fits)
    {
        using var folder = new Folder();
        folder.Write("m.onnx", Nested(doublings, doublings));
        if (fits)
            Assert.Equal(
                doublings,
                (await ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", CancellationToken.None)).Model.Functions.Count
            );
        else
            Assert.Contains(
                "expand to more than",
                (
                    await Assert.ThrowsAsync<BadInputException>(() =>
                        ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", CancellationToken.None)
                    )
                ).Message
            );
    }

    [Fact]
    public async Task A_function_that_calls_itself_by_way_of_another_is_refused()
    {
        using var folder = new Folder();
        folder.Write("m.onnx", Nested(4, 1));
        Assert.Contains(
            "calls itself",
            (
                await Assert.ThrowsAsync<BadInputException>(() =>
                    ModelIndexer.IndexAsync(folder.Store, "drop/m.onnx", CancellationToken.None)
                )
            ).Message
        );
    }

    // Each function calls the next one twice; the last calls the one of the given number.
    private static ModelProto Nested(int count, int last)
    {
        var model = OfOpset(17, "f")
            .Input("x", DataType.Float, 1, 16)
            .Weight("w", 16, 16)
            .With(Node("MatMul", ["x", "w"], ["m"]), Node("f:f0", ["m"], ["y"]))
            .Output("y");
        for (var i = 0; i < count; i++)
        {
            var next =
                i + 1 < count ? $"f:f{i + 1}"
                : last < count ? $"f:f{last}"
                : "Relu";
            var function = new FunctionProto { Name = $"f{i}", Domain = "f" };
            function.OpsetImport.AddRange(model.OpsetImport);
            function.Input.Add("a");
            function.Output.Add("c");
            function.Node.Add(Node(next, ["a"], ["b"]));
            function.Node.Add(Node(next, ["b"], ["c"]));
            model.Functions.Add(function);
        }
        return model;
    }
}
