using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Techniques of another assembly run from a recipe, among the core's own, with no change there.</summary>
public class ForeignTechniqueTests
{
    static ForeignTechniqueTests() => Technique.Register(typeof(ForeignTechniqueTests).Assembly);

    [Fact]
    public async Task A_layer_technique_and_a_graph_technique_are_found_and_run_in_the_order_of_the_recipe()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 3, 64).Weight("w", 64, 48).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        // Half of the weights are zero before they are clipped, or the clipped ones are halved.
        var first = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- limit: {most: 0.05}\n- halve: {}\n");
        var second = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- halve: {}\n- limit: {most: 0.05}\n");
        var weights = Random("w", 64, 48);
        Assert.Equal(weights.Select(w => Math.Clamp(w, -0.05f, 0.05f) / 2), Stored(first));
        Assert.Equal(weights.Select(w => Math.Clamp(w / 2, -0.05f, 0.05f)), Stored(second));
        Assert.Equal(["limit"], Assert.Single(second.Report.Layers).Steps);
    }

    [Fact]
    public async Task They_chain_with_pruning_and_quantization()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 3, 64).Weight("w", 64, 48).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- prune: {sparsity: 0.5}\n- limit: {most: 0.2}\n- halve: {}\n- quantize: {bits: 8, protect: 0}\n"
        );
        var layer = Assert.Single(done.Report.Layers);
        Assert.Equal(3, layer.Steps.Count);
        Assert.Equal(0.5, layer.Sparsity, 0.02);
        var weights = Random("w", 64, 48);
        var limit = weights.Select(Math.Abs).Order().Skip(weights.Length / 2).First();
        var expected = weights.Select(w => Math.Abs(w) < limit ? 0 : Math.Clamp(w, -0.2f, 0.2f) / 2);
        var (_, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "o.onnx"));
        var decoded = new Lowered(new Dictionary<string, EncodedLayer>(), [], graph).LargestWeight;
        Assert.All(expected.Zip(decoded), p => Assert.True(Math.Abs(p.First - p.Second) < 0.1 / 127 && (p.First != 0 || p.Second == 0)));
    }

    [Fact]
    public async Task Settings_of_two_open_steps_are_chosen_together()
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x0", DataType.Float, 3, 96);
        for (var i = 0; i < 3; i++)
            model.Weight($"w{i}", 96, 96).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
        model.With(Node("Identity", ["x3"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nbudget: {maxSizeRatio: 0.2}\nsteps:\n- limit: {open: true}\n- quantize: {bits: mixed}\n"
        );
        Assert.InRange(done.Report.Size.Ratio, 0.1, 0.2);
        Assert.Equal(3, done.Report.Widths!.LayersMeasured);
        Assert.All(done.Report.Layers, l => Assert.Equal(2, l.Steps.Count));
        // Clipping costs the outputs and saves no byte: none of the layers is clipped.
        var (_, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "o.onnx"));
        Assert.True(new Lowered(new Dictionary<string, EncodedLayer>(), [], graph).LargestWeight.Max() > 0.05);
        Assert.True(done.Report.Layers.Max(l => l.Error) < 0.2);
    }

    private static float[] Stored(Compressed done) =>
        MemoryMarshal
            .Cast<byte, float>(ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.Single().RawData.Span)
            .ToArray();

    /// <summary>Options of <see cref="Limit"/>.</summary>
    public sealed record LimitOptions
    {
        /// <summary>Largest magnitude of a weight (default 1).</summary>
        [Range(0.0, 1000)]
        public double Most { get; init; } = 1;

        /// <summary>Choose the magnitude for each layer (default false).</summary>
        public bool Open { get; init; }
    }

    /// <summary>Clips the weights of a layer.</summary>
    public sealed class Limit : LayerTechnique<LimitOptions>
    {
        public override string Step => "limit";

        public override string About => "Weights are clipped.";

        public override bool LeavesDense => true;

        protected override Ladder Ladder(LimitOptions options) =>
            options.Open
                ? Core.Techniques.Ladder.Open(
                    new[] { 0.01, 0.05, 10 }.Select((m, i) => new Rung(new Setting(this, new LimitOptions { Most = m }), i + 1)),
                    3
                )
                : base.Ladder(options);

        protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, LimitOptions options) =>
            new(FormName.Dense, 32, 1, weight.Reference.Length, 1 << 20);

        protected override async Task<EncodedLayer> CompressAsync(
            LayerWork work,
            LimitOptions options,
            Stream shard,
            CancellationToken cancellation
        )
        {
            var values = new float[work.Weight.Elements];
            await work.Weight.ReadAsync(0, values, cancellation);
            var clipped = Array.ConvertAll(values, v => Math.Clamp(v, -(float)options.Most, (float)options.Most));
            await shard.WriteAsync(MemoryMarshal.AsBytes(clipped.AsSpan()).ToArray(), cancellation);
            var nonzero = clipped.Count(v => v != 0);
            return EncodedLayer.OfFloats(FormName.Dense, work.Shape, (int)DataType.Float, values.Length * 4L, 0, nonzero);
        }
    }

    /// <summary>Options of <see cref="Halve"/>: none.</summary>
    public sealed record HalveOptions;

    /// <summary>Halves every weight of the main graph.</summary>
    public sealed class Halve : GraphTechnique<HalveOptions>
    {
        public override string Step => "halve";

        public override string About => "Weights are halved.";

        protected override async Task ApplyAsync(GraphWork work, HalveOptions options, CancellationToken cancellation)
        {
            foreach (var weight in Weight.Of(work.Model))
            {
                var floats = MemoryMarshal.Cast<byte, float>((await work.ReadAsync(weight.Tensor, cancellation)).Span).ToArray();
                var halves = Array.ConvertAll(floats, v => v / 2);
                await work.KeepAsync(weight.Tensor, MemoryMarshal.AsBytes(halves.AsSpan()).ToArray(), cancellation);
            }
        }
    }
}
