using System.Buffers;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Puts the product of two matrices in the place of one, of a rank at which both together have fewer weights: of MatMul and Gemm, and of
/// convolutions, which become one that makes as many channels as the rank, and a 1×1 convolution of these. Each factor is a layer for the
/// steps behind.
/// </summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class Factorization<TOptions> : LayerTechnique<TOptions>
    where TOptions : RankOptions, new()
{
    private const double DefaultRatio = 0.5;

    // Of the ratio given; the last is next to lossless where the ratio is a half.
    private static readonly double[] Shares =
    [
        1.0 / 64,
        1.0 / 16,
        0.125,
        0.25,
        0.375,
        0.5,
        0.625,
        0.75,
        0.875,
        1,
        1.125,
        1.25,
        1.5,
        1.75,
        1.95,
    ];

    /// <inheritdoc/>
    public override string Step => "factorize";

    /// <inheritdoc/>
    public override bool LeavesDense => true;

    /// <inheritdoc/>
    public override bool ChangesLayers => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before)
    {
        if (before.HasFlag(ModelTraits.Coded))
            return "'factorize' takes weights before they are rounded: put it in front of 'quantize'";
        return before.HasFlag(ModelTraits.Masked)
            ? "factors of a pruned matrix hold no zeros: put 'factorize' in front of 'prune', which then prunes the factors"
            : null;
    }

    /// <inheritdoc/>
    public override ModelTraits Leaves(ModelTraits before) => before | ModelTraits.Factored;

    /// <inheritdoc/>
    protected override string? WhyInvalid(TOptions options) =>
        new object?[] { options.Ratio, options.Energy, options.Rank }.Count(o => o is not null) > 1
            ? "give one of 'ratio', 'energy' and 'rank'"
        : options is { Scope: RankScope.Global } and ({ Energy: not null } or { Rank: not null }) ? "'scope: global' goes with 'ratio'"
        : null;

    /// <inheritdoc/>
    protected override Ladder Ladder(TOptions options)
    {
        var given = new Setting(this, options);
        if (options.Scope == RankScope.Layer)
            return Techniques.Ladder.From(given);
        var ratio = options.Ratio ?? DefaultRatio;
        var ratios = Shares.Select(s => s * ratio).Where(r => r < 1);
        return Techniques.Ladder.Open(
            ratios.Select(r => new Rung(new Setting(this, options with { Ratio = r, Scope = RankScope.Layer }), r)),
            ratio
        );
    }

    /// <inheritdoc/>
    protected override string? WhyNot(Weight weight, LayerShape shape, TOptions options)
    {
        if (ProductForm.WhyNot(weight) is { } why)
            return $"not factorized: it {why}";
        if (weight.Type != (int)DataType.Float || weight.Reference.DataType != weight.Type)
            return $"not factorized: its weights are {DataTypes.Name(weight.Reference.DataType)}";
        var (rows, columns) = Sides(weight.Reference.Dims);
        var rank = MostRank(rows, columns, options);
        return rank < 1 || rank * (rows + columns) >= rows * columns ? $"not factorized: at rank {rank} it would be no smaller" : null;
    }

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, TOptions options)
    {
        var (rows, columns) = Sides(weight.Reference.Dims);
        var rank = MostRank(rows, columns, options);
        // The matrix, its projection and the vectors, in double.
        var working = 8 * (3 * rows * columns + 4 * Math.Min(rows, columns) * Math.Min(rows, columns)) + WorkingBytes(shape);
        return new LayerPlan(FormName.Product, 32, 1, 4 * rank * (rows + columns), working)
        {
            Rank = (int)rank,
            IsMost = options.Energy is not null,
            MultiplyAccumulates = rank * (rows + columns),
        };
    }

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        TOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (rows, columns) = Stored(work.Shape);
        var matrix = ArrayPool<double>.Shared.Rent(checked(rows * columns));
        try
        {
            var whole = matrix.AsMemory(0, rows * columns);
            var squares = await ReadAsync(work.Weight, whole, cancellation);
            var most = (int)MostRank(rows, columns, options);
            var found = await ApproximateAsync(work, options, whole, (rows, columns), most, cancellation);
            if (options.Energy is { } energy && found.Share < energy)
                throw new LayerRefusedException(
                    $"not factorized: at rank {most}, the largest that is smaller, it keeps {found.Share:0.###} of its energy"
                );
            var (left, right, rank) = (found.Factors.Left, found.Factors.Right, found.Factors.Rank);
            foreach (var factor in new[] { left, right })
                await shard.WriteAsync(MemoryMarshal.AsBytes(Array.ConvertAll(factor, v => (float)v).AsSpan()).ToArray(), cancellation);
            var weights = (long)rank * (rows + columns);
            var error = squares == 0 ? 0 : Math.Sqrt(found.Lost / squares);
            return EncodedLayer.OfFloats(FormName.Product, work.Shape, (int)DataType.Float, 4 * weights, error, weights) with
            {
                Rank = rank,
                OutputError = found.OutputError,
                Fallback = found.Fallback,
            };
        }
        finally
        {
            ArrayPool<double>.Shared.Return(matrix);
        }
    }

    /// <summary>Memory that finding the factors takes beside the weight and its singular vectors.</summary>
    private protected virtual long WorkingBytes(LayerShape shape) => 0;

    /// <summary>Finds the factors.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="matrix">The weight as it is stored, row-major: outputs along its rows for convolutions and transposed Gemms, else along
    /// its columns.</param>
    /// <param name="sides">Its rows and columns.</param>
    /// <param name="most">The largest rank.</param>
    /// <param name="cancellation">Cancels the work.</param>
    private protected abstract Task<FoundFactors> ApproximateAsync(
        LayerWork work,
        TOptions options,
        Memory<double> matrix,
        (int Rows, int Columns) sides,
        int most,
        CancellationToken cancellation
    );

    private static async Task<double> ReadAsync(WeightReader weight, Memory<double> matrix, CancellationToken cancellation)
    {
        double squares = 0;
        await weight.EachAsync(
            (at, part) =>
            {
                for (var i = 0; i < part.Length; i++)
                {
                    double value = part[i];
                    if (!double.IsFinite(value))
                        throw new LayerRefusedException("not factorized: it holds NaN or infinity");
                    matrix.Span[(int)at + i] = value;
                    squares += value * value;
                }
            },
            cancellation
        );
        return squares;
    }

    private static (long Rows, long Columns) Sides(long[] dims) => (dims[0], dims.Skip(1).Aggregate(1L, (a, b) => a * b));

    // A view with its outputs behind its inputs is that of a matrix that is stored inputs first.
    private static (int Rows, int Columns) Stored(LayerShape shape) =>
        shape.Inner == 1 ? (checked((int)shape.Outer), checked((int)shape.Axis)) : (checked((int)shape.Axis), checked((int)shape.Inner));

    // By energy, the largest rank at which the factors are smaller.
    private static long MostRank(long rows, long columns, TOptions options)
    {
        var smaller = (rows * columns - 1) / (rows + columns);
        return options switch
        {
            { Rank: { } rank } => rank,
            { Energy: not null } => smaller,
            _ => Math.Min(smaller, (long)((options.Ratio ?? DefaultRatio) * rows * columns / (rows + columns))),
        };
    }
}

/// <summary>Two factors in the place of a matrix.</summary>
/// <param name="Factors">The factors.</param>
/// <param name="Lost">Squared norm of what their product lacks of the matrix.</param>
/// <param name="Share">Share of the energy that the ranks were chosen by.</param>
internal sealed record FoundFactors(LowRank Factors, double Lost, double Share)
{
    /// <inheritdoc cref="EncodedLayer.OutputError"/>
    public double? OutputError { get; init; }

    /// <inheritdoc cref="EncodedLayer.Fallback"/>
    public string? Fallback { get; init; }
}
