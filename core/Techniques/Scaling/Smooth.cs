using System.ComponentModel.DataAnnotations;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Scaling;

/// <summary>Options of <see cref="Smooth"/>.</summary>
public sealed record SmoothingOptions
{
    /// <summary>
    /// Migration strength: how much of the difficulty of rounding goes from the activations into the weights. Default: for each output of a
    /// normalization the one, 0.05 apart, whose rounding error is least, or none; what layers make is left as it is.
    /// </summary>
    [Range(0.0, 1)]
    public double? Strength { get; init; }

    /// <summary>
    /// Where a normalization's output is taken by others too, put a Mul before the matrix products that take it (default true).
    /// </summary>
    public bool Insert { get; init; } = true;

    /// <summary>Samples to observe the channels on, at most half of the data (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>The step <c>smooth</c> (<see cref="Smoothing"/>).</summary>
public sealed class Smooth : GraphTechnique<SmoothingOptions>
{
    private const double WorthANode = 0.8;

    /// <inheritdoc/>
    public override string Step => "smooth";

    /// <inheritdoc/>
    public override string About => "Large channels of activations moved into the weights that take them (Xiao et al. 2023, SmoothQuant).";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'smooth' scales weights before they are rounded: put it in front of 'quantize'" : null;

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, SmoothingOptions options) =>
        new([.. ChannelScaling.Of(model).Select(View)], StatisticKinds.Channels, options.Samples);

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, SmoothingOptions options, CancellationToken cancellation)
    {
        var channels = new DividedChannels(work);
        var (smoothed, unchanged, inserted) = (
            new List<ChannelScaling>(),
            new List<ChannelScaling>(),
            new List<(ChannelScaling, double[])>()
        );
        for (var i = 0; i < channels.Values.Count; i++)
        {
            var value = channels.Values[i];
            // Between layers the largest magnitude of a channel says little of most samples: rectified, it is silent in many.
            if (value.NeedsNode && !options.Insert || value.FromLayer && options.Strength is null)
                continue;
            if ((await work.ObservedAsync(i, cancellation)).Channels is not { Count: > 0 } seen || seen.Channels != value.Channels)
                continue;
            var search = new SmoothingSearch(seen);
            if (await StrengthAsync(value, search, channels.Constants, options.Strength, cancellation) is not { } scales)
            {
                unchanged.Add(value);
                continue;
            }
            channels.Divide(value, scales);
            if (value.NeedsNode)
                inserted.Add((value, scales));
            smoothed.Add(value);
        }
        Insert(work.Model, inserted);
        var figures = new Rescaling(0, smoothed.Count, 0, inserted.Count, unchanged.Count);
        await channels.FinishAsync(smoothed.Concat(unchanged), figures, cancellation);
    }

    // Seen as the layer that takes it sees it.
    private static InputView View(ChannelScaling value) => InputView.Of(value.First, LayerShape.Of(value.First)).Views[0];

    // Null when the value is best as it is.
    private static async Task<double[]?> StrengthAsync(
        ChannelScaling value,
        SmoothingSearch search,
        ScaledConstants constants,
        double? strength,
        CancellationToken cancellation
    )
    {
        var layers = value.Takers.Select(t => (t.Tensor, Seen: search.Of(t))).ToList();
        foreach (var (tensor, seen) in layers)
            await EachAsync(tensor, seen.SeeChannels);
        // NaN and infinite weights have no scales.
        if (strength is { } given)
            return search.Scales(given) is var scales && scales.All(s => double.IsFinite(s) && s > 0) ? scales : null;
        foreach (var (tensor, seen) in layers)
        {
            await EachAsync(tensor, seen.SeeRows);
            seen.Add();
        }
        return search.Best(value.NeedsNode ? WorthANode : 1);

        Task EachAsync(TensorProto tensor, Action<long, ReadOnlySpan<float>> see) =>
            constants.ReadAsync(
                tensor,
                (first, floats) =>
                {
                    see(first, floats.Span);
                    return Task.CompletedTask;
                },
                cancellation
            );
    }

    private static void Insert(ModelProto model, List<(ChannelScaling Value, double[] Scales)> inserted)
    {
        if (inserted.Count == 0)
            return;
        var edit = new ModelEdit(model);
        using var batch = edit.Batch();
        var index = edit.Roots[0].Index;
        foreach (var (value, scales) in inserted)
        {
            var by = edit.AddConstant(
                edit.Roots[0],
                value.Value + "_s",
                ModelEdit.Tensor([.. scales.Select(s => (float)(1 / s))], scales.Length)
            );
            var divided = edit.FreshName(value.Value + "_d");
            var consumers = value.Takers.Select(t => t.Tensor.Name).ToHashSet(StringComparer.Ordinal);
            var products = index
                .OwnConsumers(value.Value)
                .Where(n => n.Input.Count > 1 && n.Input[0] == value.Value && consumers.Contains(n.Input[1]))
                .ToList();
            foreach (var p in products)
                p.Input[0] = divided;
            ModelEdit.Replace(edit.Roots[0], products[0], [ModelEdit.Node("Mul", [value.Value, by], [divided]), products[0]]);
        }
    }
}
