using Serverless.Core.Numerics;

namespace Serverless.Core.Forms;

/// <summary>Chooses which constants of a model are coded at their entropy, and codes them: where the file gets smaller.</summary>
internal static class EntropyCoding
{
    /// <summary>Seconds that ONNX Runtime takes to load a step, and a byte of the stream beside it (core/docs/entropy.md).</summary>
    public const double StepSeconds = 1.1e-3,
        ByteSeconds = 0.12e-6;

    /// <summary>Bytes of a stream, at most: it is encoded in memory, and decoded in a hundred times as many.</summary>
    public const long MostBytes = 32 << 20;

    /// <summary>Constants smaller than this are not worth their nodes.</summary>
    public const int SmallestConstant = 256;

    /// <summary>Bytes of the decoder, about.</summary>
    public const int FixedBytes = 2800;

    private const double Margin = 1.03;
    private const int ConstantNodes = 70,
        CallBytes = 55,
        Fewest = 32,
        Most = 1024;

    // Steps without words to try; two are always possible. They take nodes, and lanes that make up for these.
    private static readonly int[] LastSteps = [8, 4, 2, 0];
    private const int LanesOfLastStep = 150;

    /// <summary>Bytes that a constant is expected to take alone, with a decoder.</summary>
    public static double Alone(long[] counts) =>
        FixedBytes + Margin * FrequencyTable.Entropy(counts) / 8 + SharedTable.EntryBytes * counts.Count(c => c > 0) + ConstantNodes;

    /// <summary>Seconds that loading may take where a recipe does not say: 1, and less for a model of fewer than two million weights.</summary>
    /// <param name="weights">Weights of the model.</param>
    public static double DefaultSeconds(long weights) => Math.Min(1, 0.05 + 0.45e-6 * weights);

    /// <summary>What was coded.</summary>
    /// <param name="Stream">The stream; its pieces name constants by their place in what was given.</param>
    /// <param name="Bytes">Bytes of each constant in it, states, tables and nodes included; 0 for those that are not coded.</param>
    public sealed record Result(CodedStream Stream, IReadOnlyList<long> Bytes);

    /// <summary>Codes constants.</summary>
    /// <param name="constants">Their bytes.</param>
    /// <param name="seconds">Seconds that loading the stream may take.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The stream; null where nothing gets smaller.</returns>
    public static Result? Code(IReadOnlyList<ReadOnlyMemory<byte>> constants, double seconds, CancellationToken cancellation)
    {
        var blocks = constants
            .SelectMany((c, i) => c.Length < SmallestConstant ? [] : CodedBlock.Of(i, c))
            .GroupBy(b => b.Constant)
            .ToDictionary(g => g.Key, g => g.ToList());
        foreach (var (constant, each) in blocks)
            if (each.Sum(b => FrequencyTable.Entropy(b.Counts)) / 8 + ConstantNodes >= constants[constant].Length)
                blocks.Remove(constant);
        while (blocks.Count > 0)
        {
            cancellation.ThrowIfCancellationRequested();
            var all = blocks.Values.SelectMany(b => b).ToList();
            var steps = Steps(all, seconds);
            var tables = SharedTable.Group(all, steps);
            var bits = new double[constants.Count];
            var fitted = tables.Select(t => new FrequencyTable(t.Counts)).ToList();
            foreach (var (table, frequencies) in tables.Zip(fitted))
            foreach (var block in table.Blocks)
                bits[block.Constant] += frequencies.Bits(block.Counts);
            var lost = blocks.Keys.Where(c => bits[c] / 8 + ConstantNodes >= constants[c].Length).ToList();
            foreach (var constant in lost)
                blocks.Remove(constant);
            if (lost.Count == 0)
                return Code(constants, tables, fitted, steps, bits, cancellation);
        }
        return null;
    }

    private static Result? Code(
        IReadOnlyList<ReadOnlyMemory<byte>> constants,
        IReadOnlyList<SharedTable> shared,
        IReadOnlyList<FrequencyTable> tables,
        int steps,
        double[] bits,
        CancellationToken cancellation
    )
    {
        var coded = LastSteps
            .Where(last => shared.Sum(t => Lanes(t, steps + last)) >= last * LanesOfLastStep)
            .Select(last => Stream(constants, shared, tables, steps + last, last, cancellation))
            .First(s => s is not null)!;
        var stream = coded.Stream;
        var whole = 2L * stream.Words.Length + 4L * stream.States.Length + tables.Sum(t => SharedTable.EntryBytes * t.Symbols.Length);
        var rest = constants.Where((_, i) => bits[i] > 0).Sum(c => (long)c.Length) - FixedBytes - ConstantNodes * bits.Count(b => b > 0);
        return whole < rest
            ? new Result(
                coded,
                [.. bits.Select(b => b > 0 ? (long)Math.Ceiling(b / bits.Sum() * (whole + FixedBytes)) + ConstantNodes : 0)]
            )
            : null;
    }

    // Null where the last steps of a lane take more bits than a state has.
    private static CodedStream? Stream(
        IReadOnlyList<ReadOnlyMemory<byte>> constants,
        IReadOnlyList<SharedTable> shared,
        IReadOnlyList<FrequencyTable> tables,
        int steps,
        int last,
        CancellationToken cancellation
    )
    {
        int[] lanes = [.. shared.Select(t => Lanes(t, steps))];
        var bytes = new byte[checked(lanes.Sum() * steps)];
        var pieces = new List<CodedPiece>();
        for (int t = 0, at = 0, end = 0; t < lanes.Length; t++)
        {
            foreach (var block in shared[t].Blocks)
            {
                constants[block.Constant].Span.Slice(block.Offset, block.Bytes).CopyTo(bytes.AsSpan(at));
                at += block.Bytes;
                if (pieces.Count > 0 && pieces[^1] is var p && p.Constant == block.Constant && p.Offset + p.Bytes == block.Offset)
                    pieces[^1] = p with { Bytes = p.Bytes + block.Bytes };
                else
                    pieces.Add(new CodedPiece(block.Constant, block.Offset, block.Bytes));
            }
            end += lanes[t] * steps;
            if (at == end)
                continue;
            // The last lane is filled up with the byte that takes fewest bits.
            bytes.AsSpan(at, end - at).Fill((byte)Array.IndexOf(shared[t].Counts, shared[t].Counts.Max()));
            pieces.Add(new CodedPiece(-1, 0, end - at));
            at = end;
        }
        var perLane = lanes.SelectMany((count, t) => Enumerable.Repeat(tables[t], count)).ToList();
        return RansStream.TryEncode(bytes, steps, last, perLane, cancellation) is { } stream
            ? new CodedStream(stream, tables, lanes, pieces)
            : null;
    }

    private static int Lanes(SharedTable table, int steps) => (int)((table.Blocks.Sum(b => (long)b.Bytes) + steps - 1) / steps);

    // More steps are fewer lanes, which take bytes for their states, and longer to load.
    private static int Steps(IReadOnlyList<CodedBlock> blocks, double seconds)
    {
        var bytes = blocks.Sum(b => (long)b.Bytes);
        var bits = blocks.Sum(b => FrequencyTable.Entropy(b.Counts)) / bytes;
        var most = (seconds - bytes * ByteSeconds) / StepSeconds;
        return Enumerable
            .Range(1, Most / Fewest)
            .Select(i => i * Fewest)
            .Where(s => s <= most || s == Fewest)
            .MinBy(s => bytes / (double)s * (24 - Math.Min(15, 3 * bits)) / 8 + Calls(s) * CallBytes + s / 2.0 * bits / 8);
    }

    private static int Calls(int steps) => RansFunctions.Plan(steps).Sum(c => c.Times) + 4 * RansFunctions.Plan(steps).Count();
}
