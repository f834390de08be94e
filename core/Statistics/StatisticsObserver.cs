using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Statistics;

/// <summary>Gathers the statistics of one value over samples.</summary>
/// <param name="view">The value and how its rows are taken.</param>
/// <param name="wanted">What to keep.</param>
/// <param name="spill">Whether a Gram matrix of some bytes goes to disk.</param>
public sealed class StatisticsObserver(InputView view, StatisticKinds wanted, Func<long, bool> spill) : IDisposable
{
    // Rows of a sample beyond this tell little that is new, and would make one large picture outweigh the others.
    private const int MostRows = 256;
    private readonly Histogram? histogram = wanted.HasFlag(StatisticKinds.Histogram) ? new Histogram() : null;
    private GramMatrix[]? grams;
    private ColumnSquares? squares;
    private ChannelStatistics? channels;
    private long samples;
    private float min = float.PositiveInfinity,
        max = float.NegativeInfinity,
        quietest = float.PositiveInfinity;
    private MovingRange average = MovingRange.Empty;

    /// <summary>Bytes of Gram matrices in memory.</summary>
    public long Held => grams?.Sum(g => g.Held) ?? 0;

    /// <summary>Adds the value's tensor of one sample.</summary>
    public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        samples++;
        if (values.Length == 0)
            return;
        var (lo, hi) = Extremes.Of(values);
        // What is infinite or undefined says nothing about a range; the layer computes with it all the same.
        if (!float.IsFinite(lo) || !float.IsFinite(hi))
            (lo, hi) = Finite(values);
        (min, max) = (MathF.Min(min, lo), MathF.Max(max, hi));
        if (MathF.Max(-lo, hi) is > 0 and var reach)
            quietest = MathF.Min(quietest, reach);
        average = average.Then(lo, hi);
        histogram?.Add(values, MathF.Max(MathF.Abs(lo), MathF.Abs(hi)));
        if (wanted.HasFlag(StatisticKinds.Channels))
            AddChannels(values, shape);
        if (wanted.HasFlag(StatisticKinds.Gram))
            AddRows(values, shape);
        if (wanted.HasFlag(StatisticKinds.Squares))
            (squares ??= new ColumnSquares(view, MostRows)).Add(values, shape);
    }

    /// <summary>What was gathered, with the Gram matrices to be written from <see cref="WriteGramsAsync"/>.</summary>
    public InputStatistics Result =>
        new(samples, samples == 0 || min > max ? 0 : min, samples == 0 || min > max ? 0 : max, average)
        {
            Quietest = float.IsFinite(quietest) ? quietest : 0,
            Histogram = histogram,
            Channels = channels,
            Squares = squares?.Sums,
            SquaresRows = squares?.Rows ?? 0,
            GramAxis = grams is null ? 0 : view.Axis,
            GramGroups = grams?.Length ?? 0,
            GramRows = grams?[0].Rows ?? 0,
        };

    /// <summary>Writes the Gram matrices one after another.</summary>
    public async Task WriteGramsAsync(Stream stream, CancellationToken cancellation)
    {
        foreach (var g in grams ?? [])
            await g.WriteAsync(stream, cancellation);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var g in grams ?? [])
            g.Dispose();
    }

    private static (float, float) Finite(ReadOnlySpan<float> values)
    {
        var (lo, hi) = (float.PositiveInfinity, float.NegativeInfinity);
        foreach (var v in values)
            if (float.IsFinite(v))
                (lo, hi) = (MathF.Min(lo, v), MathF.Max(hi, v));
        return lo > hi ? (0, 0) : (lo, hi);
    }

    private void AddChannels(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        var axis = view.Window is null ? shape.Length - 1 : 1;
        if (axis < 0 || axis >= shape.Length)
            return;
        var (count, inner) = ((int)shape[axis], 1);
        for (var i = axis + 1; i < shape.Length; i++)
            inner *= (int)shape[i];
        channels ??= new ChannelStatistics(new float[count], new float[count], new double[count], new double[count], 0);
        if (channels.Channels != count)
            return;
        var outer = values.Length / (count * inner);
        channels = channels with { Count = channels.Count + (long)outer * inner };
        for (var o = 0; o < outer; o++)
        {
            for (var c = 0; c < count; c++)
            {
                var part = values.Slice((o * count + c) * inner, inner);
                var (lo, hi) = inner == 1 ? (part[0], part[0]) : Extremes.Of(part);
                if (!float.IsFinite(lo) || !float.IsFinite(hi))
                    continue;
                (channels.Min[c], channels.Max[c]) = (MathF.Min(channels.Min[c], lo), MathF.Max(channels.Max[c], hi));
                channels.Sum[c] += inner == 1 ? lo : TensorPrimitives.Sum(part);
                channels.Magnitudes[c] += inner == 1 ? MathF.Abs(lo) : TensorPrimitives.SumOfMagnitudes(part);
            }
        }
    }

    private void AddRows(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        grams ??= [.. Enumerable.Range(0, view.Groups).Select(_ => new GramMatrix(view.Axis, spill((long)view.Axis * view.Axis * 8)))];
        for (var g = 0; g < grams.Length; g++)
        {
            var next = grams[g].Next;
            var rows = InputRows.Take(values, shape, view, g, Math.Min(MostRows, next.Length / view.Axis), next);
            if (TensorPrimitives.SumOfSquares<double>(next[..(rows * view.Axis)]) is var s && double.IsFinite(s))
                grams[g].Added(rows);
        }
    }
}
