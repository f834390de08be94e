using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Facts cost as much as the graph is long: 4,000 layers at most eight times what 1,000 do; linear work takes four.</summary>
[Collection("scaling")]
public class GraphFactsScalingTests
{
    private const int Layers = 1_000;

    // Facts of 4,000 layers allocate this much: a collection amid them would cost as the heap's size has it.
    private const long Quiet = 2L << 30;

    [Fact]
    public void Facts_grow_with_the_layers() =>
        Growth.Linear(
            Layers,
            layers =>
            {
                var model = Chain(layers);
                return () =>
                {
                    var groups = new GraphFacts(model).Groups;
                    Assert.NotEmpty(groups.All);
                    Assert.NotEmpty(groups.All[0].Values);
                };
            },
            Growth.Most,
            Quiet
        );

    // Twenty constants a layer: a convolution, factors and offsets, a cut and a join. The first half is one group by its residuals, the
    // second a group a layer.
    private static ModelProto Chain(int layers)
    {
        var model = OfOpset(13).Input("x0", DataType.Float, "N", 8, "H", "W");
        for (var i = 0; i < layers; i++)
        {
            var residual = i < layers / 2;
            model.Weight($"w{i}", 8, 8, 1, 1).Weight($"b{i}", 8).Weight($"v{i}", 8, 8, 1, 1);
            model.With(Node("Conv", [$"x{i}", $"w{i}", $"b{i}"], [$"c{i}"]));
            var at = $"c{i}";
            for (var k = 0; k < 8; k++)
            {
                model.Weight($"s{i}_{k}", 8, 1, 1).Weight($"o{i}_{k}", 1, 8, 1, 1);
                model.With(Node("Mul", [at, $"s{i}_{k}"], [$"m{i}_{k}"]), Node("Add", [$"m{i}_{k}", $"o{i}_{k}"], [$"a{i}_{k}"]));
                at = $"a{i}_{k}";
            }
            model.With(
                Node("Split", [at], [$"l{i}", $"r{i}"], ModelEdit.Attribute("axis", 1L)),
                Node("Concat", [$"r{i}", $"l{i}"], [$"t{i}"], ModelEdit.Attribute("axis", 1L)),
                Node("Conv", [$"t{i}", $"v{i}"], [$"u{i}"]),
                Node(residual ? "Add" : "Mul", residual && i > 0 ? [$"u{i}", $"x{i}"] : [$"u{i}", $"u{i}"], [$"x{i + 1}"])
            );
        }
        return model.Output($"x{layers}");
    }
}
