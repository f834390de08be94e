using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>How layers are told apart that matter little.</summary>
public enum LayerRank
{
    /// <summary>By what pruning them does to their weights.</summary>
    Error,

    /// <summary>By the mean of their weights' magnitudes.</summary>
    Magnitude,
}

/// <summary>Options of <see cref="Layerwise"/>.</summary>
public sealed record LayerwiseOptions
{
    /// <summary>Share of the weights of each chosen layer that become zero (default 0.5).</summary>
    [Range(0.0, 0.99)]
    public double Sparsity { get; init; } = 0.5;

    /// <summary>Layers that are pruned, those that matter least (default 1).</summary>
    [Range(1, 100_000)]
    public int Layers { get; init; } = 1;

    /// <summary>
    /// How layers are ranked: error (default), the relative error of a layer's weights that its pruning makes, or magnitude, the mean of
    /// |w|.
    /// </summary>
    public LayerRank By { get; init; } = LayerRank.Error;

    /// <summary>Whether the layer is among those chosen, once the layers were ranked; null before.</summary>
    [Browsable(false)]
    public bool? IsChosen { get; init; }
}

/// <summary>
/// Magnitude pruning with the layer as its unit: only in the layers that matter least, the weights of least magnitude become zero
/// (layer-by-layer pruning, Blalock et al. 2020, "What is the State of Neural Network Pruning?", section 2.3). All others stay as they are.
/// </summary>
public sealed class Layerwise : PruningStep<LayerwiseOptions>
{
    private const double Least = 0.01;
    private const int Bucket = 1 << 16,
        Infinite = 0x7f80;
    private static readonly Magnitude Magnitude = new();

    /// <inheritdoc/>
    public override string Method => "layerwise";

    /// <inheritdoc/>
    public override string About => "In the layers that matter least, the weights of least magnitude become zero.";

    /// <inheritdoc/>
    protected override Ladder Ladder(LayerwiseOptions options)
    {
        var rungs = new List<LayerwiseOptions> { options };
        while (rungs[^1].Sparsity >= 2 * Least)
            rungs.Add(options with { Sparsity = rungs[^1].Sparsity / 2 });
        return Techniques.Ladder.From(rungs.Select(o => new Setting(this, o)));
    }

    /// <inheritdoc/>
    protected override UnitKind Units(LayerwiseOptions options) => options.IsChosen is null ? UnitKind.Layers : UnitKind.Weight;

    /// <inheritdoc/>
    protected override Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        LayerwiseOptions options,
        CancellationToken cancellation
    ) => WeightSurvey.OfAsync(weight, cancellation);

    /// <inheritdoc/>
    protected override IReadOnlyList<LayerwiseOptions> Allocate(LayerUnit unit, IReadOnlyList<LayerwiseOptions> options)
    {
        var chosen = unit
            .Members.Select((m, i) => (Rank: Rank(m.Survey, options[i]), i))
            .OrderBy(l => l.Rank)
            .Take(options[0].Layers)
            .Where(l => double.IsFinite(l.Rank))
            .Select(l => l.i)
            .ToHashSet();
        return [.. options.Select((o, i) => o with { IsChosen = chosen.Contains(i) })];
    }

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, LayerwiseOptions options) =>
        Magnitude.Plan(weight, shape, store, new MagnitudeOptions { Sparsity = options.IsChosen == false ? 0 : options.Sparsity });

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        LayerwiseOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var isChosen = options.IsChosen == true;
        var pruned = new MagnitudeOptions { Sparsity = isChosen ? options.Sparsity : 0 };
        var made = await Magnitude.CompressAsync(work, pruned, shard, cancellation);
        return isChosen ? made : made with { Fallback = $"not pruned: {options.Layers} other layers matter less, or it is not finite" };
    }

    // From the counts of magnitudes, each taken for the middle of its bucket; infinite where a weight is not finite.
    private static double Rank(WeightSurvey survey, LayerwiseOptions options)
    {
        if (survey.Elements == 0 || survey.Magnitudes.Keys.Any(k => k >= Infinite))
            return double.PositiveInfinity;
        var left = (long)(options.Sparsity * survey.Elements);
        var (sum, squares, pruned) = (0.0, 0.0, 0.0);
        foreach (var (bucket, count) in survey.Magnitudes.OrderBy(m => m.Key))
        {
            double middle = bucket == 0 ? 0 : BitConverter.UInt32BitsToSingle((uint)bucket * Bucket + Bucket / 2);
            var gone = Math.Min(left, count);
            left -= gone;
            (sum, squares, pruned) = (sum + count * middle, squares + count * middle * middle, pruned + gone * middle * middle);
        }
        return options.By == LayerRank.Magnitude ? sum / survey.Elements
            : squares == 0 ? 0
            : pruned / squares;
    }
}
