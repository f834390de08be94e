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

    // x → Conv a (8 channels) → Relu → + Conv b of x → Conv c: a and b make the same 8 channels, c takes them.
    [Fact]
    public async Task A_unit_of_coupled_channels_is_decided_on_at_once()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 4, 6, 6)
            .Weight("a", 8, 4, 3, 3)
            .Weight("b", 8, 4, 3, 3)
            .Weight("c", 5, 8, 1, 1)
            .With(
                Node("Conv", ["x", "a"], ["u"]),
                Node("Conv", ["x", "b"], ["v"]),
                Node("Relu", ["u"], ["w"]),
                Node("Add", ["w", "v"], ["s"]),
                Node("Conv", ["s", "c"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- weaken: {channels: 3}\n");
        Assert.All(done.Report.Layers, l => Assert.Equal(["weaken"], l.Steps));
        var (a, b, c) = (Random("a", 8, 4, 3, 3), Random("b", 8, 4, 3, 3), Random("c", 5, 8, 1, 1));
        var weakest = Enumerable
            .Range(0, 8)
            .OrderBy(i =>
                Energy(a[(i * 36)..((i + 1) * 36)]) + Energy(b[(i * 36)..((i + 1) * 36)]) + Energy([.. c.Where((_, j) => j % 8 == i)])
            )
            .Take(3)
            .ToHashSet();
        var graph = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph;
        Assert.Equal(a.Select((v, i) => weakest.Contains(i / 36) ? 0 : v), Values(graph, "a"));
        Assert.Equal(b.Select((v, i) => weakest.Contains(i / 36) ? 0 : v), Values(graph, "b"));
        Assert.Equal(c.Select((v, i) => weakest.Contains(i % 8) ? 0 : v), Values(graph, "c"));

        static double Energy(float[] values) => values.Sum(v => (double)v * v);
    }

    private static float[] Values(GraphProto graph, string name) =>
        MemoryMarshal.Cast<byte, float>(graph.Initializer.Single(t => t.Name == name).RawData.Span).ToArray();

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

    /// <summary>Options of <see cref="Weaken"/>.</summary>
    public sealed record WeakenOptions
    {
        /// <summary>Channels of a group that become zero (default 1).</summary>
        [Range(1, 1000)]
        public int Channels { get; init; } = 1;

        /// <summary>What becomes zero, once it was found.</summary>
        [System.ComponentModel.Browsable(false)]
        public IReadOnlyList<Slices> Zero { get; init; } = [];
    }

    /// <summary>Slices of a weight.</summary>
    /// <param name="Indices">Along the axis.</param>
    /// <param name="Length">Of the axis.</param>
    /// <param name="Inner">Elements behind it.</param>
    public sealed record Slices(IReadOnlyList<long> Indices, long Length, long Inner);

    /// <summary>Sets the channels of least energy to zero, wherever they are made or taken.</summary>
    public sealed class Weaken : LayerTechnique<WeakenOptions>
    {
        public override string Step => "weaken";

        public override string About => "Channels become zero.";

        public override bool LeavesDense => true;

        protected override UnitKind Units(WeakenOptions options) => UnitKind.Channels;

        protected override Task<WeightSurvey> SurveyAsync(
            WeightReader weight,
            long[] dims,
            WeakenOptions options,
            CancellationToken cancellation
        ) => WeightSurvey.OfChannelsAsync(weight, dims, cancellation);

        protected override IReadOnlyList<WeakenOptions> Allocate(LayerUnit unit, IReadOnlyList<WeakenOptions> options)
        {
            Assert.True(unit.IsWhole);
            var weakest = Enumerable
                .Range(0, unit.Channels)
                .OrderBy(c => unit.Members.Sum(m => m.Axes.Sum(a => m.Energy(a, c))))
                .Take(options[0].Channels)
                .ToList();
            return [.. unit.Members.Zip(options, (m, o) => o with { Zero = [.. o.Zero, .. m.Axes.Select(a => Of(m, a))] })];

            Slices Of(UnitMember member, ChannelMember axis)
            {
                var lengths = member.Survey.Energies!.Select(e => (long)e.Count).ToList();
                var inner = lengths.Skip(axis.Axis + 1).Aggregate(1L, (n, d) => n * d);
                return new Slices([.. weakest.SelectMany(axis.Indices)], lengths[axis.Axis], inner);
            }
        }

        protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, WeakenOptions options) =>
            new(FormName.Dense, 32, 1, weight.Reference.Length, 1 << 20);

        protected override async Task<EncodedLayer> CompressAsync(
            LayerWork work,
            WeakenOptions options,
            Stream shard,
            CancellationToken cancellation
        )
        {
            var values = new float[work.Weight.Elements];
            await work.Weight.ReadAsync(0, values, cancellation);
            foreach (var (indices, length, inner) in options.Zero)
                for (var i = 0; i < values.Length; i++)
                    if (indices.Contains(i / inner % length))
                        values[i] = 0;
            await shard.WriteAsync(MemoryMarshal.AsBytes(values.AsSpan()).ToArray(), cancellation);
            return EncodedLayer.OfFloats(FormName.Dense, work.Shape, (int)DataType.Float, values.Length * 4L, 0, values.Count(v => v != 0));
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
