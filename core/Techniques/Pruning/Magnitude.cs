using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>The weights among which the smallest are found.</summary>
public enum PruneScope
{
    /// <summary>Those of one layer: every layer has the same sparsity.</summary>
    Layer,

    /// <summary>Those of all layers: one threshold for the model.</summary>
    Global,
}

/// <summary>Options of <see cref="Magnitude"/>.</summary>
public sealed record MagnitudeOptions
{
    /// <summary>Share of the weights that become zero (default 0.5).</summary>
    [Range(0.0, 0.99)]
    public double Sparsity { get; init; } = 0.5;

    /// <summary>
    /// Where the smallest weights are found: layer (default: every layer has this sparsity) or global (one threshold for the model).
    /// </summary>
    public PruneScope Scope { get; init; } = PruneScope.Layer;

    /// <summary>
    /// Magnitude below which weights become zero, once it was found for the model; null before, and with <see
    /// cref="PruneScope.Layer"/>.
    /// </summary>
    [Browsable(false)]
    public float? Threshold { get; init; }
}

/// <summary>
/// Magnitude pruning (Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", section 3; global as in
/// Blalock et al. 2020, "What is the State of Neural Network Pruning?", section 2.3): the weights of least magnitude become zero.
/// </summary>
public sealed class Magnitude : Pruning<MagnitudeOptions>
{
    /// <inheritdoc/>
    public override string Method => "magnitude";

    /// <inheritdoc/>
    public override string About => "The weights of least magnitude become zero (Han et al. 2015).";

    /// <inheritdoc/>
    public override bool IsDefault => true;

    /// <inheritdoc/>
    protected override double Sparsity(MagnitudeOptions options) => options.Sparsity;

    /// <inheritdoc/>
    protected override MagnitudeOptions Halved(MagnitudeOptions options) =>
        options with
        {
            Sparsity = options.Sparsity / 2,
            Threshold = options.Threshold / 2,
        };

    /// <inheritdoc/>
    protected override UnitKind Units(MagnitudeOptions options) =>
        options is { Scope: PruneScope.Global, Threshold: null } ? UnitKind.Layers : UnitKind.Weight;

    /// <inheritdoc/>
    protected override Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        MagnitudeOptions options,
        CancellationToken cancellation
    ) => WeightSurvey.OfAsync(weight, cancellation);

    /// <inheritdoc/>
    protected override IReadOnlyList<MagnitudeOptions> Allocate(LayerUnit unit, IReadOnlyList<MagnitudeOptions> options)
    {
        var threshold = Threshold([.. unit.Members.Select(m => m.Survey)], options[0].Sparsity);
        return [.. options.Select(o => o with { Threshold = threshold })];
    }

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, MagnitudeOptions options) =>
        new(FormName.Dense, DataTypes.Bits(weight.Reference.DataType), 1, weight.Reference.Length, 3L * WeightReader.Whole);

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        MagnitudeOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var weight = work.Weight;
        var (least, ties) = options.Threshold is { } threshold
            ? (BitConverter.SingleToUInt32Bits(threshold), 0L)
            : await ThresholdAsync(weight, (long)(options.Sparsity * weight.Elements), cancellation);
        return await WriteAsync(
            work,
            (_, values) =>
            {
                for (var i = 0; i < values.Length; i++)
                    if (
                        (BitConverter.SingleToUInt32Bits(values[i]) & 0x7fff_ffff) is var bits
                        && (bits < least || bits == least && ties-- > 0)
                    )
                        values[i] = 0;
            },
            shard,
            cancellation
        );
    }

    private static float Threshold(IReadOnlyList<WeightSurvey> surveys, double sparsity)
    {
        var pruned = (long)(sparsity * surveys.Sum(s => s.Elements));
        if (pruned == 0)
            return 0;
        var (bucket, below, inside) = WeightSurvey.Find(surveys, pruned - 1);
        // As if the weights of the bucket lay evenly in it: it is as wide as a 128th of its place.
        var within = (uint)Math.Round((double)(pruned - below) / inside * 0x1_0000);
        return BitConverter.UInt32BitsToSingle(((uint)bucket << 16) + within);
    }

    // Weights below a magnitude become zero, and as many of those at it as the sparsity asks for, in the order of the weight.
    private static async Task<(uint Bits, long Ties)> ThresholdAsync(WeightReader weight, long pruned, CancellationToken cancellation)
    {
        if (pruned == 0)
            return (0, 0);
        var (bits, smaller) = await WeightSurvey.RankAsync(weight, pruned - 1, cancellation);
        return (bits, pruned - smaller);
    }
}
