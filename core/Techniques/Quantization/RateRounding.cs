using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>
/// Rounding on a grid of a step for each input, where a code costs its squared error and the bits that it takes. With H = M·Mᵀ the error of
/// input i weighs Mᵢᵢ², so that steps of c / Mᵢᵢ make all inputs alike (Lifar et al. 2026, algorithm 1), and those of a smaller power are
/// for an H of few samples. Steps of a row go with the root of its energy. A code is the nearest q or one nearer to zero, whichever has least (w / step − q)² + λ·bits(q) (Conzelmann and Bamler 2025, section 3), λ relative to the slope
/// ln 2 / 6 that error has over bits where codes are many (Gish and Pierce 1968).
/// </summary>
internal sealed class RateRounding
{
    private const int Most = 127,
        SampleElements = 1 << 19,
        Halvings = 24,
        Refinements = 2;

    private const double Slope = 0.11552453009332421;
    private const float SmallestHalf = 6.103515625e-5f;
    private readonly Hessian? hessian;
    private readonly bool masked;
    private readonly LayerShape shape;
    private readonly double[] bits;
    private double error,
        squares;

    private RateRounding(LayerWork work, Hessian? hessian, float[] steps, Half[] rows, double[] bits) =>
        (this.hessian, masked, shape, Steps, Rows, this.bits) = (hessian, work.Masked, work.Shape, steps, rows, bits);

    /// <summary>What the steps of each row are multiplied with.</summary>
    public Half[] Rows { get; }

    /// <summary>The step of each input.</summary>
    public float[] Steps { get; }

    /// <summary>Whether steps are FLOAT16 numbers.</summary>
    public bool IsHalf => Steps.All(s => (float)(Half)s == s);

    /// <summary>Σ ‖(w − ŵ)·x‖² by the damped Hessian.</summary>
    public double OutputError { get; private set; }

    /// <summary>‖w − ŵ‖ / ‖w‖ (Frobenius).</summary>
    public double RelativeError => squares == 0 ? 0 : Math.Sqrt(error / squares);

    /// <summary>Finds steps at which codes have an entropy, by weights of some rows.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="hessian">The second moments of its input; null for steps that are all alike.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<RateRounding> FindAsync(
        LayerWork work,
        Hessian? hessian,
        WaterSicOptions options,
        CancellationToken cancellation
    )
    {
        var (entropy, rate) = (options.Bits, options.Rate);
        var factors = Weights(hessian, (int)work.Shape.Axis, options.Waterfill);
        var (weights, each) = await SampleAsync(work, factors, cancellation);
        var largest = weights.Length == 0 ? 0 : weights.Max(Math.Abs);
        var (low, high) = (Math.Log(Math.Max(largest, double.Epsilon) / Most), Math.Log(Math.Max(4 * largest, double.Epsilon)));
        var bits = new double[2 * Most + 1];
        for (var i = 0; i < Halvings && largest > 0; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var middle = (low + high) / 2;
            bits = Bits(weights, Math.Exp(middle), Slope * rate, out var found);
            (low, high) = found > entropy ? (middle, high) : (low, middle);
        }
        for (var i = 0; i < bits.Length; i++)
            bits[i] *= Slope * rate;
        var step = largest > 0 ? Math.Exp(high) : 0;
        var half = factors.Length >= Forms.CodeForm.HalfScalesFrom && step / factors.Max() > SmallestHalf;
        return new RateRounding(work, hessian, Array.ConvertAll(factors, f => Stored(step / f, half)), each, bits);
    }

    /// <summary>Rounds some rows.</summary>
    /// <param name="tile">Their weights: element (column, row) at <c>column · rows + row</c>.</param>
    /// <param name="unmasked">The weights before some were set to zero, or null.</param>
    /// <param name="rows">How many.</param>
    /// <param name="first">The first.</param>
    /// <param name="codes">Receives codes, input by input.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public void Round(double[] tile, double[]? unmasked, int rows, long first, sbyte[] codes, CancellationToken cancellation)
    {
        var columns = new Columns(this, tile, rows, first, codes);
        if (hessian is not null)
            OutputError += ErrorCompensation.Run(unmasked ?? tile, rows, hessian.Factor, hessian.Order, columns, cancellation);
        else
            for (var column = 0; column < Steps.Length; column++)
            {
                var weights = (unmasked ?? tile).AsSpan(column * rows, rows);
                columns.Change(weights, weights, new double[rows], column);
            }
    }

    // The code of a weight in steps: of those from the nearest to zero, the one of least cost.
    private static int Code(double value, double[] costs)
    {
        var code = (int)Math.Clamp(Math.Round(value, MidpointRounding.ToEven), -Most, Most);
        var (best, least) = (code, Cost(code));
        for (var (i, toward) = (0, Math.Sign(code)); i < 2 && code != 0; i++)
            if (Cost(code -= toward) is var cost && cost < least)
                (best, least) = (code, cost);
        return best;

        double Cost(int c) => (value - c) * (value - c) + costs[c + Most];
    }

    // Bits of each code where codes are chosen with them in view: found from those of the nearest codes, and again.
    private static double[] Bits(double[] weights, double step, double lambda, out double entropy)
    {
        var (bits, costs) = (new double[2 * Most + 1], new double[2 * Most + 1]);
        entropy = 0;
        for (var pass = 0; pass <= (lambda > 0 ? Refinements : 0); pass++)
        {
            var counts = new double[bits.Length];
            foreach (var w in weights)
                counts[Code(w / step, costs) + Most]++;
            entropy = 0;
            for (var i = 0; i < bits.Length; i++)
            {
                // Codes that no weight of the sample has are dear, not impossible.
                bits[i] = Math.Log2((weights.Length + bits.Length) / (counts[i] + 1));
                entropy += counts[i] > 0 ? counts[i] / weights.Length * Math.Log2(weights.Length / counts[i]) : 0;
            }
            for (var i = 0; i < bits.Length; i++)
                costs[i] = lambda * bits[i];
        }
        return bits;
    }

    // Weights of some rows in units of their inputs and rows, and the unit of each row: the root of its energy.
    private static async Task<(double[] Weights, Half[] Rows)> SampleAsync(LayerWork work, double[] factors, CancellationToken cancellation)
    {
        var shape = work.Shape;
        var (sample, units) = (new List<(long Row, double Value)>(), new Half[shape.Rows]);
        var energies = new double[shape.Rows];
        var every = Math.Max(1, shape.Elements / SampleElements);
        await foreach (var tile in WeightTile.EachAsync(work.Weight, shape, 1, cancellation))
            for (var k = 0; k < factors.Length; k++)
            for (var r = 0; r < tile.Rows; r++)
            {
                var (row, value) = (tile.First + r, tile.Values[k * tile.Rows + r] * factors[k]);
                energies[row] += value * value;
                if (row % every == 0)
                    sample.Add((row, value));
            }
        var mean = energies.Sum() / energies.Length;
        for (var r = 0; r < energies.Length; r++)
            units[r] = mean == 0 ? (Half)1 : (Half)Math.Clamp(Math.Sqrt(energies[r] / mean), 1.0 / 64, 64);
        return ([.. sample.Select(s => s.Value / (double)units[s.Row])], units);
    }

    // Mᵢᵢ by column, to a power.
    private static double[] Weights(Hessian? hessian, int axis, double power)
    {
        var factors = new double[axis];
        if (hessian is null)
            Array.Fill(factors, 1);
        else
            for (var i = 0; i < axis; i++)
                factors[hessian.Order[i]] = Math.Pow(hessian.Factor.Diagonal(i), power);
        return factors;
    }

    private static float Stored(double step, bool half) => half && (float)(Half)step is var s && float.IsFinite(s) ? s : (float)step;

    private sealed class Columns(RateRounding rounding, double[] given, int rows, long first, sbyte[] codes) : IColumnChange
    {
        public int Span => 0;

        public void Prepare(Memory<double> expected, int first, int count) { }

        public double Change(ReadOnlySpan<double> adjusted, ReadOnlySpan<double> target, Span<double> residual, int position)
        {
            var column = rounding.hessian?.Order[position] ?? position;
            double each = rounding.Steps[column],
                error = 0;
            var places = codes.AsSpan(checked((int)(column * rounding.shape.Rows + first)), rows);
            for (var r = 0; r < rows; r++)
            {
                var step = each * (double)rounding.Rows[first + r];
                var zero = step == 0 || rounding.masked && given[column * rows + r] == 0;
                var code = zero ? 0 : Code(adjusted[r] / step, rounding.bits);
                places[r] = (sbyte)code;
                residual[r] = target[r] - code * step;
                error += (adjusted[r] - code * step) * (adjusted[r] - code * step);
                rounding.error += residual[r] * residual[r];
                rounding.squares += target[r] * target[r];
            }
            return error;
        }
    }
}
