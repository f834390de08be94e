using Serverless.Core.Allocation;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Scaling;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>
/// A model of 4,000 layers, 16,000 dead nodes or 80,000 initializers takes no more for each than one of a quarter of them.
/// </summary>
[Collection("scaling")]
public sealed class SizeTests : IDisposable
{
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly Folder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Reading_and_writing_grow_with_the_layers() =>
        Growth.Linear(
            1_000,
            n =>
            {
                var store = Store(Layers(n));
                return () =>
                {
                    var index = Index(store);
                    Assert.Equal(n, Weight.Of(index.Model).Count);
                    ModelWriter
                        .WriteAsync(
                            store,
                            index.Model,
                            "drop",
                            new Dictionary<string, string>(),
                            "work/out",
                            ModelWriter.ProtobufLimit,
                            None
                        )
                        .GetAwaiter()
                        .GetResult();
                };
            }
        );

    [Theory]
    [InlineData("- quantize: {method: rtn}")]
    [InlineData("- quantize: {method: static, onlyIfFaster: false}")]
    [InlineData("- prune: {}\n- quantize: {method: gptq}\nlayers:\n- {match: \"w1*\", bits: 8}\n- {match: \"*9\", skip: true}")]
    public void Planning_grows_with_the_layers(string steps) =>
        Growth.Linear(
            1_000,
            n =>
            {
                var (model, recipe) = (Layers(n, 32), RecipeReader.Read($"version: 1\nsteps:\n{steps}\n", "recipe.yaml"));
                return () => Assert.Equal(n, LayerTasks.Of(model, recipe, 1, "drop").Count);
            }
        );

    [Theory]
    [InlineData("layers", 1_000)]
    [InlineData("dead nodes", 4_000)]
    [InlineData("initializers", 20_000)]
    public void Simplifying_grows_with_what_there_is(string what, int size)
    {
        var simplify = Technique.All.OfType<GraphTechnique>().Single(t => t.Step == "simplify");
        var options = Activator.CreateInstance(simplify.OptionsType)!;
        Growth.Linear(
            size,
            n =>
            {
                var model = what switch
                {
                    "layers" => Layers(n),
                    "dead nodes" => DeadNodes(n),
                    _ => Initializers(n),
                };
                var store = Store(model);
                return () =>
                {
                    var work = new GraphWork(store, Index(store), new Dictionary<string, string>(), "work/state");
                    simplify.ApplyAsync(work, options, None).GetAwaiter().GetResult();
                    simplify.Finish(work.Model, options);
                    Assert.Equal(what == "layers" ? 2 * n : 1, work.Model.Graph.Node.Count);
                };
            }
        );
    }

    [Fact]
    public void Scalings_are_found_as_the_layers_are_many() =>
        Growth.Linear(
            1_000,
            n =>
            {
                var model = Layers(n);
                return () => Assert.True(ChannelScaling.Of(model).Count >= n - 1);
            }
        );

    [Fact]
    public void A_bit_allocation_takes_as_long_as_the_layers_are_many() =>
        Growth.Linear(
            250,
            n =>
            {
                var random = new Random(5);
                var items = Enumerable
                    .Range(0, n)
                    .Select(_ =>
                    {
                        var (size, weight) = (random.Next(1000, 5_000_000), Math.Pow(10, -4 * random.NextDouble()));
                        return (IReadOnlyList<KnapsackChoice>)
                            [.. new[] { 2, 4, 8 }.Select(b => new KnapsackChoice((long)size * b / 8, weight * Math.Pow(4, -b)))];
                    })
                    .ToList();
                var budget = items.Sum(i => i[1].Bytes);
                return () => Assert.True(Knapsack.Least(items, budget)!.Bytes <= budget);
            }
        );

    [Fact]
    public void A_report_grows_with_the_layers() =>
        Growth.Linear(
            1_000,
            n =>
            {
                var layers = Enumerable
                    .Range(0, n)
                    .Select(i => new ReportLayer(
                        $"w{i}",
                        $"n{i}",
                        "MatMul",
                        [4, 4],
                        ["s"],
                        8,
                        0,
                        null,
                        64,
                        20,
                        0.01,
                        0,
                        "Folded",
                        4,
                        false,
                        null
                    ))
                    .ToList();
                var report = new Report(
                    "succeeded",
                    "r",
                    "m.onnx",
                    new ReportSize(64 * n, 20 * n, 0.3),
                    new ReportParameters(16 * n, 16 * n, 16 * n),
                    new ReportFidelity("synthetic", 8, 0.99, 0.01, null),
                    null,
                    null,
                    null,
                    layers,
                    1,
                    0,
                    0
                );
                return () => Assert.Contains($"w{n - 1}", HtmlReport.Render(report, ""), StringComparison.Ordinal);
            }
        );

    private static ModelProto Layers(int n, int width = 4)
    {
        var model = OfOpset(17).Input("x0", DataType.Float, 1, width);
        var values = Random("w", width, width);
        for (var i = 0; i < n; i++)
            model
                .Initializer(Tensor($"w{i}", [.. values.Select(v => v + i)], width, width))
                .With(Node("MatMul", [$"x{i}", $"w{i}"], [$"h{i}"]), Node("Relu", [$"h{i}"], [$"x{i + 1}"]));
        return model.Output($"x{n}");
    }

    private static ModelProto DeadNodes(int n)
    {
        var model = OfOpset(13).Input("x", DataType.Float, 1, 64).Weight("w", 64, 64).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        for (var i = 0; i < n; i++)
            model.With(Node("Relu", [i == 0 ? "x" : $"d{i - 1}"], [$"d{i}"]));
        return model;
    }

    private static ModelProto Initializers(int n)
    {
        var model = OfOpset(13).Input("x", DataType.Float, 1).With(Node("Neg", ["x"], ["y"])).Output("y");
        var tensor = Tensor("", [0f], 1);
        for (var i = 0; i < n; i++)
        {
            var named = tensor.Clone();
            named.Name = $"i{i}";
            model.Initializer(named).Graph.Input.Add(new ValueInfoProto { Name = named.Name });
        }
        return model;
    }

    private FolderStore Store(ModelProto model)
    {
        folder.Write("drop/m.onnx", model);
        return new FolderStore(new[] { "drop", "work" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
    }

    private static ModelIndex Index(FolderStore store) => ModelIndexer.IndexAsync(store, "drop/m.onnx", None).GetAwaiter().GetResult();
}
