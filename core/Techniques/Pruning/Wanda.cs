using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Options of <see cref="Wanda"/>.</summary>
public sealed record WandaOptions
{
    /// <inheritdoc cref="MagnitudeOptions.Sparsity"/>
    [Range(0.0, 0.99)]
    public double Sparsity { get; init; } = 0.5;

    /// <summary>Samples that inputs are observed on, at most (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;
}

/// <summary>
/// Pruning by weights and activations (Sun et al. 2024, "A Simple and Effective Pruning Approach for Large Language Models", section 3): of
/// each row, the weights that make one output, those of least |w|·‖x‖₂ become zero, ‖x‖₂ being the norm of what the weight is
/// multiplied with over all samples (eq. 1). A layer whose input is not known is pruned by magnitude.
/// </summary>
public sealed class Wanda : Pruning<WandaOptions>
{
    /// <inheritdoc/>
    public override string Method => "wanda";

    /// <inheritdoc/>
    public override string About => "Of each row the weights of least |w|·‖x‖ become zero, calibrated (Sun et al. 2024, Wanda).";

    /// <inheritdoc/>
    protected override double Sparsity(WandaOptions options) => options.Sparsity;

    /// <inheritdoc/>
    protected override WandaOptions Halved(WandaOptions options) => options with { Sparsity = options.Sparsity / 2 };

    /// <inheritdoc/>
    protected override StatisticKinds Needs(WandaOptions options) => StatisticKinds.Gram;

    /// <inheritdoc/>
    protected override int Samples(WandaOptions options) => options.Samples;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, WandaOptions options) =>
        new(
            FormName.Dense,
            DataTypes.Bits(weight.Reference.DataType),
            1,
            weight.Reference.Length,
            3L * WeightReader.Whole + shape.Axis * shape.Axis * 8 + shape.Rows * 12 + WeightTile.Rows(shape) * shape.Axis * 8
        );

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        WandaOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        if (WhyUnknown(work) is { } why)
            return await new Magnitude().CompressAsync(work, new MagnitudeOptions { Sparsity = options.Sparsity }, shard, cancellation) with
            {
                Fallback = $"pruned by magnitude: {why}",
            };
        var shape = work.Shape;
        var norms = await NormsAsync(work.Input!, cancellation);
        var perGroup = shape.Rows / norms.Length;
        var (limits, ties) = await LimitsAsync(work, norms, (int)(options.Sparsity * shape.Axis), cancellation);
        return await WriteAsync(
            work,
            (first, values) =>
            {
                for (var i = 0; i < values.Length; i++)
                {
                    var at = first + i;
                    var (row, k) = shape.Inner == 1 ? (at / shape.Axis, at % shape.Axis) : (at % shape.Inner, at / shape.Inner);
                    var score = Score(values[i], norms[row / perGroup][k]);
                    if (score < limits[row] || score == limits[row] && ties[row]-- > 0)
                        values[i] = 0;
                }
            },
            shard,
            cancellation
        );
    }

    private static double Score(double value, double norm) => Math.Abs(value) * norm;

    // The score that the pruned weights of each row stay below, and how many at it are pruned too.
    private static async Task<(double[] Limits, int[] Ties)> LimitsAsync(
        LayerWork work,
        double[][] norms,
        int pruned,
        CancellationToken cancellation
    )
    {
        var (shape, axis) = (work.Shape, (int)work.Shape.Axis);
        var (limits, ties) = (new double[shape.Rows], new int[shape.Rows]);
        if (pruned == 0)
            return (limits, ties);
        var most = WeightTile.Rows(shape);
        var scores = new double[axis];
        for (long first = 0; first < shape.Rows; first += most)
        {
            var rows = (int)Math.Min(most, shape.Rows - first);
            var tile = await WeightTile.ReadAsync(work.Weight, shape, first, rows, cancellation);
            for (var r = 0; r < rows; r++)
            {
                var norm = norms[(first + r) / (shape.Rows / norms.Length)];
                for (var k = 0; k < axis; k++)
                    scores[k] = Score(tile[k * rows + r], norm[k]);
                Array.Sort(scores);
                limits[first + r] = scores[pruned - 1];
                ties[first + r] = pruned - Array.IndexOf(scores, scores[pruned - 1]);
            }
        }
        return (limits, ties);
    }

    private static string? WhyUnknown(LayerWork work) =>
        work.Input switch
        {
            null => work.NotObserved ?? "there are no statistics of its input",
            { GramAxis: 0 } or { GramRows: 0 } => "no sample reached it",
            { GramAxis: var axis } when axis != work.Shape.Axis => "its input has another shape than its rows",
            { GramGroups: var groups } when work.Shape.Rows % groups != 0 => "its groups do not divide its rows",
            _ => null,
        };

    // ‖x‖₂ of each input of each group of channels: the diagonal of XᵀX.
    private static async Task<double[][]> NormsAsync(InputStatistics input, CancellationToken cancellation)
    {
        var norms = new double[input.GramGroups][];
        for (var g = 0; g < norms.Length; g++)
        {
            var gram = await input.ReadGramAsync!(g, cancellation);
            norms[g] = [.. Enumerable.Range(0, input.GramAxis).Select(k => Math.Sqrt(gram[(long)k * input.GramAxis + k]))];
        }
        return norms;
    }
}
