using System.Text.Json;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Pruning of whole layers' shares: only the layers that matter least.</summary>
public class LayerwiseTests
{
    private const int N = 48;
    private static readonly float[] Scales = [1, 0.2f, 3, 0.5f];

    // The second layer is the smallest; the third is mostly zeros besides a few large weights.
    private static float[] Weights(int layer) =>
        [.. Random($"w{layer}", N, N).Select((v, i) => layer == 2 && i % 8 != 0 ? v / 1000 : v * Scales[layer])];

    private static ModelProto Net(Func<int, float[]>? weights = null)
    {
        var model = OfOpset(17).Input("x0", DataType.Float, 2, N);
        for (var i = 0; i < Scales.Length; i++)
            model
                .Initializer(Tensor($"w{i}", (weights ?? Weights)(i), N, N))
                .With(Node("MatMul", [$"x{i}", $"w{i}"], [i == Scales.Length - 1 ? "y" : $"x{i + 1}"]));
        return model.Output("y");
    }

    [Theory]
    [InlineData("magnitude", 1)]
    [InlineData("magnitude", 3)]
    [InlineData("error", 1)]
    [InlineData("error", 2)]
    public async Task Only_the_layers_that_matter_least_are_pruned(string by, int layers)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(), Recipe($"sparsity: 0.3, layers: {layers}, by: {by}"));
        var chosen = Enumerable
            .Range(0, Scales.Length)
            .OrderBy(l => by == "magnitude" ? Weights(l).Average(w => (double)Math.Abs(w)) : Lost(Weights(l), 0.3))
            .Take(layers)
            .Select(l => $"w{l}")
            .ToHashSet();
        Assert.Equal(Scales.Length, done.Report.Layers.Count);
        foreach (var layer in done.Report.Layers)
        {
            Assert.Equal(chosen.Contains(layer.Name) ? (int)(0.3 * N * N) / (double)(N * N) : 0, layer.Sparsity, 1e-9);
            Assert.Equal(chosen.Contains(layer.Name), layer.Fallback is null);
            Assert.Equal(chosen.Contains(layer.Name) ? Math.Sqrt(Lost(Weights(int.Parse(layer.Name[1..])), 0.3)) : 0, layer.Error, 1e-6);
        }
    }

    [Fact]
    public async Task A_layer_that_is_not_finite_is_never_chosen_and_steps_behind_go_on()
    {
        using var folder = new Folder();
        var model = Net(l => l == 1 ? [float.NaN, .. Weights(1).Skip(1)] : Weights(l));
        var done = await Compressed.RunAsync(folder, model, Recipe("layers: 4, by: magnitude") + "- quantize: {bits: 8, protect: 0}\n");
        Assert.Equal(0, done.Report.Layers.Single(l => l.Name == "w1").Sparsity);
        Assert.All(done.Report.Layers.Where(l => l.Name != "w1"), l => Assert.True(l is { Sparsity: >= 0.5, Bits: 8 }, l.ToString()));
    }

    // A tenth of the zeros that magnitude pruning sets everywhere, in the layers that it costs least, on a recogniser.
    [Fact(Explicit = true)]
    public async Task Layers_that_were_ranked_cost_less_than_layers_at_random()
    {
        using var folder = new Folder();
        var file = RealModels.File("ch_PP-OCRv4_rec_infer");
        var ranked = await Compressed.RunAsync(folder, file, Recipe("sparsity: 0.3, layers: 20"));
        var names = ranked.Report.Layers.Select(l => l.Name).ToArray();
        var (random, errors) = (new Random(3), new List<double>());
        for (var i = 0; i < 4; i++)
        {
            random.Shuffle(names);
            var rules = string.Concat(names.Skip(20).Select(n => $"- {{match: {JsonSerializer.Serialize(n)}, skip: true}}\n"));
            var done = await Compressed.RunAsync(folder, file, $"version: 1\nsteps:\n- prune: {{sparsity: 0.3}}\nlayers:\n{rules}");
            errors.Add(done.Report.Fidelity.RelativeError!.Value);
        }
        Assert.True(ranked.Report.Fidelity.RelativeError < errors.Average(), $"{ranked.Report.Fidelity} {string.Join(' ', errors)}");
    }

    private static double Lost(float[] weights, double sparsity) =>
        weights.Select(w => (double)w * w).Order().Take((int)(sparsity * weights.Length)).Sum() / weights.Sum(w => (double)w * w);

    private static string Recipe(string options) => $"version: 1\nsteps:\n- prune: {{method: layerwise, {options}}}\n";
}
