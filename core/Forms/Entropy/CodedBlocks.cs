using Serverless.Core.Numerics;

namespace Serverless.Core.Forms;

/// <summary>A part of a constant whose bytes are coded by one table.</summary>
/// <param name="Constant">Index of the constant.</param>
/// <param name="Offset">Where it begins.</param>
/// <param name="Bytes">How many bytes.</param>
/// <param name="Counts">How often each byte occurs.</param>
internal sealed record CodedBlock(int Constant, int Offset, int Bytes, long[] Counts)
{
    private const int Smallest = 1 << 14,
        Most = 16;

    /// <summary>The blocks of a constant: several where it is large, as rows of a matrix may differ in their distribution.</summary>
    public static IEnumerable<CodedBlock> Of(int constant, ReadOnlyMemory<byte> bytes)
    {
        var blocks = Math.Clamp(bytes.Length / Smallest, 1, Most);
        for (var i = 0; i < blocks; i++)
        {
            var (start, end) = ((int)((long)bytes.Length * i / blocks), (int)((long)bytes.Length * (i + 1) / blocks));
            yield return new CodedBlock(constant, start, end - start, FrequencyTable.Count(bytes.Span[start..end]));
        }
    }
}

/// <summary>Blocks that share a frequency table.</summary>
internal sealed class SharedTable
{
    /// <summary>Bytes of a table's entry: the symbol, and its frequency in 16 bits.</summary>
    public const int EntryBytes = 3;

    // More would be larger than the processor's cache, and each takes nodes.
    private const int Most = 16;
    private const int NodeBytes = 90;

    /// <summary>The blocks.</summary>
    public List<CodedBlock> Blocks { get; } = [];

    /// <summary>How often each byte occurs in them.</summary>
    public long[] Counts { get; private set; } = new long[256];

    private double Cost { get; set; }

    /// <summary>
    /// Groups blocks so that their code lengths and the tables take few bytes: each, from the largest on, joins the table at which it adds
    /// least, or begins one.
    /// </summary>
    /// <param name="blocks">The blocks.</param>
    /// <param name="steps">Bytes of a lane, which a table's last one is filled up to.</param>
    public static List<SharedTable> Group(IEnumerable<CodedBlock> blocks, int steps)
    {
        var tables = new List<SharedTable>();
        foreach (var block in blocks.OrderByDescending(b => b.Bytes).ThenBy(b => b.Constant).ThenBy(b => b.Offset))
        {
            var alone = Bytes(block.Counts, steps);
            var best = tables.MinBy(t => t.With(block, steps) - t.Cost);
            if (best is null || tables.Count < Most && alone < best.With(block, steps) - best.Cost)
                tables.Add(best = new SharedTable());
            best.Cost = best.With(block, steps);
            best.Counts = Sum(best.Counts, block.Counts);
            best.Blocks.Add(block);
        }
        foreach (var table in tables)
            table.Blocks.Sort((a, b) => (a.Constant, a.Offset).CompareTo((b.Constant, b.Offset)));
        return tables;
    }

    private double With(CodedBlock block, int steps) => Bytes(Sum(Counts, block.Counts), steps);

    private static double Bytes(long[] counts, int steps)
    {
        var (all, bits) = (counts.Sum(), FrequencyTable.Entropy(counts));
        return bits / 8 * (1 + steps / 2.0 / all) + EntryBytes * counts.Count(c => c > 0) + NodeBytes;
    }

    private static long[] Sum(long[] a, long[] b)
    {
        var sum = new long[256];
        for (var i = 0; i < sum.Length; i++)
            sum[i] = a[i] + b[i];
        return sum;
    }
}
