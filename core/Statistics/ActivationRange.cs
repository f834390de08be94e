namespace Serverless.Core.Statistics;

/// <summary>How the range of an activation is chosen from what was observed.</summary>
public enum RangeMethod
{
    /// <summary>The smallest and the largest value.</summary>
    Minmax,

    /// <summary>Their moving average over samples (Jacob et al. 2018, section 3.1).</summary>
    Average,

    /// <summary>What holds a share of the values.</summary>
    Percentile,

    /// <summary>Least Kullback-Leibler divergence of the rounded distribution (Migacz 2017, "8-bit Inference with TensorRT").</summary>
    Entropy,

    /// <summary>Least squared error of the rounded values.</summary>
    Mse,
}

/// <summary>Chooses the range of an activation; it always holds zero.</summary>
public static class ActivationRange
{
    private const int Steps = 40;
    private const double SmallestShare = 0.05;

    /// <summary>Finds the range.</summary>
    /// <param name="statistics">What was observed; all but <see cref="RangeMethod.Minmax"/> and <see cref="RangeMethod.Average"/> need
    /// its histogram.</param>
    /// <param name="method">How.</param>
    /// <param name="percentile">Percent of the values that stay inside, for <see cref="RangeMethod.Percentile"/>.</param>
    /// <param name="levels">Values that a code can take: 256 for 8 bits.</param>
    public static (float Min, float Max) Find(InputStatistics statistics, RangeMethod method, double percentile, int levels = 256)
    {
        var (min, max) = method == RangeMethod.Average ? statistics.Average.Value : (statistics.Min, statistics.Max);
        (min, max) = (MathF.Min(min, 0), MathF.Max(max, 0));
        if (method is RangeMethod.Minmax or RangeMethod.Average || statistics.Histogram is not { } histogram || histogram.Counts.Sum() == 0)
            return (min, max);
        if (method == RangeMethod.Percentile)
        {
            var (low, high) = Percentile(histogram, percentile);
            return (MathF.Max(min, low), MathF.Min(max, high));
        }
        Func<float, float, double> cost =
            method == RangeMethod.Mse
                ? (lo, hi) => SquaredError(histogram, lo, hi, levels)
                : (lo, hi) => Divergence(histogram, lo, hi, levels);
        // The end with the longer reach first, then the other, then the first again.
        var wide = -min > max;
        for (var pass = 0; pass < 3; pass++)
        {
            if (wide == (pass != 1))
                min = Best(min, lo => cost(lo, max), statistics.Min);
            else
                max = Best(max, hi => cost(min, hi), statistics.Max);
        }
        return (min, max);
    }

    private static float Best(float current, Func<float, double> cost, float whole)
    {
        if (whole == 0 || Math.Sign(whole) != Math.Sign(current))
            return current;
        var (best, least) = (current, cost(current));
        if (double.IsPositiveInfinity(least))
            return current;
        for (var i = 1; i <= Steps; i++)
        {
            var candidate = (float)(whole * (SmallestShare + (1 - SmallestShare) * i / Steps));
            var c = cost(candidate);
            if (c < least)
                (best, least) = (candidate, c);
        }
        return best;
    }

    private static (float, float) Percentile(Histogram h, double percentile)
    {
        var outside = (long)(h.Counts.Sum() * (1 - percentile / 100) / 2);
        var (low, high) = (0, h.Counts.Length - 1);
        for (var left = outside; low < high && left >= h.Counts[low]; low++)
            left -= h.Counts[low];
        for (var left = outside; high > low && left >= h.Counts[high]; high--)
            left -= h.Counts[high];
        return ((float)Math.Min(0, (low - Histogram.Half) * h.Width), (float)Math.Max(0, (high + 1 - Histogram.Half) * h.Width));
    }

    // Clipping, each bin at its middle, and rounding as noise of step² / 12 (Banner et al. 2019, "Post-training 4-bit
    // Quantization of Convolution Networks", eq. 5). Values that are exact, such as the zeros behind a Relu, count as
    // rounded too: the true error of the tensor alone clips less, and measured on whole models that was worse.
    private static double SquaredError(Histogram h, double min, double max, int levels)
    {
        var step = (max - min) / (levels - 1);
        double sum = 0;
        for (var i = 0; i < h.Counts.Length; i++)
        {
            if (h.Counts[i] == 0)
                continue;
            var x = (i - Histogram.Half + 0.5) * h.Width;
            var over =
                x < min ? min - x
                : x > max ? x - max
                : 0;
            sum += h.Counts[i] * (over > 0 ? over * over : step * step / 12);
        }
        return sum;
    }

    // P: the distribution with its tails put into the ends of the range. Q: P in steps of the code, spread evenly over
    // the bins of each step that hold anything. The bins at zero are left out: zero is a code of its own, and the spike that
    // activations have there would be spread over its step otherwise.
    private static double Divergence(Histogram h, double min, double max, int levels)
    {
        var (first, last) = ((int)Math.Floor(min / h.Width) + Histogram.Half, (int)Math.Ceiling(max / h.Width) - 1 + Histogram.Half);
        (first, last) = (Math.Clamp(first, 0, h.Counts.Length - 1), Math.Clamp(last, 0, h.Counts.Length - 1));
        var bins = last - first + 1;
        // With fewer bins than codes nothing would be rounded at all.
        if (bins < levels)
            return double.PositiveInfinity;
        var counts = (long[])h.Counts.Clone();
        counts[Histogram.Half] = counts[Histogram.Half - 1] = 0;
        var p = new double[bins];
        double total = 0,
            inside = 0;
        for (var i = 0; i < counts.Length; i++)
        {
            total += counts[i];
            p[Math.Clamp(i, first, last) - first] += counts[i];
            if (i >= first && i <= last)
                inside += counts[i];
        }
        if (inside == 0)
            return double.PositiveInfinity;
        double divergence = 0;
        for (var level = 0; level < levels; level++)
        {
            var (from, to) = ((int)((long)level * bins / levels), (int)((long)(level + 1) * bins / levels));
            if (to <= from)
                continue;
            double sum = 0;
            var filled = 0;
            for (var i = from; i < to; i++)
            {
                sum += counts[first + i];
                if (counts[first + i] > 0)
                    filled++;
            }
            for (var i = from; i < to; i++)
            {
                if (p[i] == 0)
                    continue;
                var q = counts[first + i] > 0 ? sum / filled / inside : 1e-9;
                divergence += p[i] / total * Math.Log(p[i] / total / q);
            }
        }
        return divergence;
    }
}
