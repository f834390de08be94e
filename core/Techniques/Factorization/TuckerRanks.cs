using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>The ranks of Tucker decompositions along inputs and outputs that a limit leaves.</summary>
/// <param name="Layout">The weight.</param>
/// <param name="Limit">The limit.</param>
internal sealed record TuckerRanks(ProductLayout Layout, FactorLimit Limit)
{
    // Above, the decomposition along all of the channels takes minutes.
    private const int LargestWhole = 768;

    /// <summary>Whether a weight is decomposed so under some options.</summary>
    public static bool Applies(ProductLayout layout, RankOptions options) =>
        layout.Pixels > 1 && (options.By == SplitBy.Tucker || options is { By: SplitBy.Best, Rank: null });

    /// <summary>Ranks along the inputs that are looked at.</summary>
    public int MostIn => Most(Layout.Inputs);

    /// <summary>Ranks along the outputs that are looked at.</summary>
    public int MostOut => Most(Layout.Outputs);

    /// <summary>Whether the limit leaves any.</summary>
    public bool Any => Limit.Rank is { } rank ? OutFor(InOf(rank)) >= OutOf(rank) : OutFor(1) > 0;

    /// <summary>Weights of the three factors.</summary>
    public long Weights(int ins, int outs) => ins * Layout.Inputs + ins * (long)outs * Layout.Pixels + outs * Layout.Outputs;

    /// <summary>The ranks that keep most of a core's energy; where some keep enough of it, the fewest weights of these.</summary>
    /// <param name="energies">Energy of the core by rank along inputs and outputs, MostIn × MostOut; changed to their sums.</param>
    /// <param name="wanted">The energy that is enough.</param>
    public (int In, int Out)? Best(double[] energies, double wanted)
    {
        if (!Any)
            return null;
        if (Limit.Rank is { } rank)
            return (InOf(rank), OutOf(rank));
        Accumulate(energies);
        (int In, int Out)? best = null;
        var (kept, weights) = (double.NegativeInfinity, long.MaxValue);
        for (var ins = 1; ins <= MostIn; ins++)
        {
            var outs = (int)Math.Min(Math.Min(OutFor(ins), MostOut), ins * Layout.Pixels);
            if (outs < 1)
                break;
            // More would be combinations of one another.
            if (ins > outs * Layout.Pixels)
                continue;
            var row = energies.AsSpan((ins - 1) * MostOut, outs);
            if (row[^1] >= wanted)
                for (outs = (int)((ins + Layout.Pixels - 1) / Layout.Pixels); row[outs - 1] < wanted; )
                    outs++;
            var (energy, size) = (Math.Min(row[outs - 1], wanted), Weights(ins, outs));
            if (energy > kept || energy == kept && size < weights)
                (best, kept, weights) = ((ins, outs), energy, size);
        }
        return best;
    }

    /// <summary>The factors at ranks in the same proportion to their channels, as far as they are known without the weights.</summary>
    public IReadOnlyList<ProductFactor> Places()
    {
        var outs = 1;
        while (outs < MostOut && OutFor(InFor(outs + 1)) > outs)
            outs++;
        var (ins, known) = Limit.Rank is { } rank ? (InOf(rank), OutOf(rank)) : (InFor(outs), outs);
        return Places(ins, known);
    }

    /// <summary>The factors at some ranks.</summary>
    public IReadOnlyList<ProductFactor> Places(int ins, int outs)
    {
        long[] ones = [.. Layout.Kernel.Select(_ => 1L)];
        int[] all = [.. Enumerable.Range(0, Layout.Kernel.Count)];
        return
        [
            new([ins, Layout.Inputs, .. ones], []),
            new([outs, ins, .. Layout.Kernel.Select(k => (long)k)], all),
            new([Layout.Outputs, outs, .. ones], []),
        ];
    }

    private int InFor(int outs) => (int)Math.Max(1, Layout.Inputs * outs / Layout.Outputs);

    private void Accumulate(double[] energies)
    {
        for (var i = 0; i < MostIn; i++)
        {
            double sum = 0;
            for (var o = 0; o < MostOut; o++)
            {
                sum += energies[i * MostOut + o];
                energies[i * MostOut + o] = sum + (i > 0 ? energies[(i - 1) * MostOut + o] : 0);
            }
        }
    }

    // The first factor makes every pixel that the second strides over.
    private int OutFor(int ins)
    {
        var finer = Layout.Strides.Aggregate(1L, (a, s) => a * s);
        return (int)Math.Clamp((Limit.Weights - ins * Layout.Inputs * finer) / (ins * Layout.Pixels + Layout.Outputs), 0, Layout.Outputs);
    }

    private int InOf(int rank) => (int)Math.Min(Math.Min(rank, MostIn), Layout.Outputs * Layout.Pixels);

    private int OutOf(int rank) => (int)Math.Min(Math.Min(rank, MostOut), Layout.Inputs * Layout.Pixels);

    private static int Most(long channels) => checked((int)(channels <= LargestWhole ? channels : channels / 2));
}
