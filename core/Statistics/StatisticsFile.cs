using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Statistics;

/// <summary>
/// Statistics in the store: a JSON header and the Gram matrices behind it. Parts of the samples are merged in the order
/// of the samples, whatever order they were made in; counts and extremes add exactly, sums with the rounding error of
/// each addition carried along.
/// </summary>
public static class StatisticsFile
{
    private const int LargestHeader = 256 << 20;

    private sealed record Header(
        long Samples,
        float Min,
        float Max,
        float Quietest,
        MovingRange Average,
        int? Exponent,
        long[]? Counts,
        ChannelStatistics? Channels,
        double[][]? Squares,
        long SquaresRows,
        int GramAxis,
        int GramGroups,
        long GramRows
    );

    /// <summary>Writes what an observer gathered.</summary>
    public static async Task WriteAsync(Stream stream, StatisticsObserver observer, CancellationToken cancellation)
    {
        await WriteHeaderAsync(stream, observer.Result, cancellation);
        await observer.WriteGramsAsync(stream, cancellation);
    }

    /// <summary>Writes statistics whose Gram matrices can be read.</summary>
    public static async Task WriteAsync(Stream stream, InputStatistics statistics, CancellationToken cancellation)
    {
        await WriteHeaderAsync(stream, statistics, cancellation);
        for (var g = 0; g < statistics.GramGroups; g++)
        {
            var gram = await statistics.ReadGramAsync!(g, cancellation);
            var row = new byte[statistics.GramAxis * 8];
            for (var i = 0; i < statistics.GramAxis; i++)
            {
                MemoryMarshal.AsBytes(gram.AsSpan(i * statistics.GramAxis, statistics.GramAxis)).CopyTo(row);
                await stream.WriteAsync(row, cancellation);
            }
        }
    }

    /// <summary>Opens statistics; the Gram matrices are read when asked for, while <paramref name="reader"/> is open.</summary>
    public static async Task<InputStatistics> ReadAsync(ArtifactReader reader, CancellationToken cancellation)
    {
        var (header, start) = await ReadHeaderAsync(reader, cancellation);
        return From(header) with
        {
            ReadGramAsync = async (group, token) =>
            {
                var gram = new double[(long)header.GramAxis * header.GramAxis];
                await ReadDoublesAsync(reader, start + group * gram.Length * 8L, gram, token);
                return gram;
            },
        };
    }

    /// <summary>Merges the parts of consecutive samples.</summary>
    /// <param name="parts">The parts, in the order of their samples.</param>
    /// <param name="stream">Where the whole goes.</param>
    /// <param name="gram">Receives the Gram matrix of the first group, where it is wanted; else empty.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The whole, Gram matrices aside.</returns>
    public static async Task<InputStatistics> MergeAsync(
        IReadOnlyList<ArtifactReader> parts,
        Stream stream,
        Memory<double> gram,
        CancellationToken cancellation
    )
    {
        var headers = new List<(Header Header, long Start)>();
        foreach (var part in parts)
            headers.Add(await ReadHeaderAsync(part, cancellation));
        var whole = Merge([.. headers.Select(h => From(h.Header))]);
        await WriteHeaderAsync(stream, whole, cancellation);
        var elements = (long)whole.GramAxis * whole.GramAxis * whole.GramGroups;
        var (read, sum, lost) = (new double[1 << 17], new double[1 << 17], new double[1 << 17]);
        for (long at = 0; at < elements; at += read.Length)
        {
            var count = (int)Math.Min(read.Length, elements - at);
            Array.Clear(sum);
            Array.Clear(lost);
            for (var p = 0; p < parts.Count; p++)
            {
                if (headers[p].Header.GramAxis == 0)
                    continue;
                await ReadDoublesAsync(parts[p], headers[p].Start + at * 8, read.AsMemory(0, count), cancellation);
                for (var i = 0; i < count; i++)
                    Add(ref sum[i], ref lost[i], read[i]);
            }
            for (var i = 0; i < count; i++)
                sum[i] += lost[i];
            if (at < gram.Length)
                sum.AsSpan(0, (int)Math.Min(count, gram.Length - at)).CopyTo(gram.Span[(int)at..]);
            await stream.WriteAsync(MemoryMarshal.AsBytes(sum.AsSpan(0, count)).ToArray(), cancellation);
        }
        return whole;
    }

    /// <summary>Joins the statistics of consecutive samples, Gram matrices aside.</summary>
    public static InputStatistics Merge(IReadOnlyList<InputStatistics> parts)
    {
        var seen = parts.Where(p => p.Samples > 0).ToList();
        if (seen.Count == 0)
            return parts[0];
        Histogram? histogram = null;
        foreach (var p in seen)
        {
            if (p.Histogram is null)
                continue;
            histogram ??= new Histogram();
            histogram.Add(p.Histogram);
        }
        var grams = seen.FirstOrDefault(p => p.GramAxis > 0);
        return new InputStatistics(
            seen.Sum(p => p.Samples),
            seen.Min(p => p.Min),
            seen.Max(p => p.Max),
            seen.Aggregate(MovingRange.Empty, (a, p) => a.Then(p.Average))
        )
        {
            Quietest = seen.Select(p => p.Quietest).Where(q => q > 0).DefaultIfEmpty(0).Min(),
            Histogram = histogram,
            Channels = Merge([.. seen.Select(p => p.Channels).OfType<ChannelStatistics>()]),
            Squares = Merge([.. seen.Select(p => p.Squares).OfType<double[][]>()]),
            SquaresRows = seen.Sum(p => p.SquaresRows),
            GramAxis = grams?.GramAxis ?? 0,
            GramGroups = grams?.GramGroups ?? 0,
            GramRows = seen.Sum(p => p.GramRows),
        };
    }

    private static ChannelStatistics? Merge(IReadOnlyList<ChannelStatistics> parts)
    {
        if (parts.Count == 0)
            return null;
        var n = parts[0].Channels;
        return new ChannelStatistics(
            [.. Enumerable.Range(0, n).Select(c => parts.Min(p => p.Min[c]))],
            [.. Enumerable.Range(0, n).Select(c => parts.Max(p => p.Max[c]))],
            Sum([.. parts.Select(p => p.Sum)]),
            Sum([.. parts.Select(p => p.Magnitudes)]),
            parts.Sum(p => p.Count)
        );
    }

    private static double[][]? Merge(IReadOnlyList<double[][]> parts) =>
        parts.Count == 0 ? null : [.. parts[0].Select((_, g) => Sum([.. parts.Select(p => p[g])]))];

    private static double[] Sum(IReadOnlyList<double[]> parts)
    {
        var (sum, lost) = (new double[parts[0].Length], new double[parts[0].Length]);
        foreach (var p in parts)
            for (var i = 0; i < sum.Length; i++)
                Add(ref sum[i], ref lost[i], p[i]);
        for (var i = 0; i < sum.Length; i++)
            sum[i] += lost[i];
        return sum;
    }

    // What an addition rounds away, without error (Knuth, "The Art of Computer Programming", vol. 2, 4.2.2, theorem B).
    private static void Add(ref double sum, ref double lost, double value)
    {
        var next = sum + value;
        var back = next - sum;
        lost += (sum - (next - back)) + (value - back);
        sum = next;
    }

    private static InputStatistics From(Header h) =>
        new(h.Samples, h.Min, h.Max, h.Average)
        {
            Quietest = h.Quietest,
            Histogram = h.Counts is null ? null : new Histogram(h.Exponent!.Value, h.Counts),
            Channels = h.Channels,
            Squares = h.Squares,
            SquaresRows = h.SquaresRows,
            GramAxis = h.GramAxis,
            GramGroups = h.GramGroups,
            GramRows = h.GramRows,
        };

    private static async Task WriteHeaderAsync(Stream stream, InputStatistics s, CancellationToken cancellation)
    {
        var header = JsonSerializer.SerializeToUtf8Bytes(
            new Header(
                s.Samples,
                s.Min,
                s.Max,
                s.Quietest,
                s.Average,
                s.Histogram?.Exponent,
                s.Histogram?.Counts,
                s.Channels,
                s.Squares,
                s.SquaresRows,
                s.GramAxis,
                s.GramGroups,
                s.GramRows
            ),
            Json.Options
        );
        var length = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, header.Length);
        await stream.WriteAsync(length, cancellation);
        await stream.WriteAsync(header, cancellation);
    }

    private static async Task<(Header, long Start)> ReadHeaderAsync(ArtifactReader reader, CancellationToken cancellation)
    {
        var length = new byte[4];
        await reader.ReadAsync(0, length, cancellation);
        var count = BinaryPrimitives.ReadInt32LittleEndian(length);
        if (count is <= 0 or > LargestHeader || count > reader.Artifact.Length - 4)
            throw new InvalidDataException($"{reader.Artifact.Path}: not statistics.");
        var header = new byte[count];
        await reader.ReadAsync(4, header, cancellation);
        return (JsonSerializer.Deserialize<Header>(header, Json.Options)!, 4 + count);
    }

    private static async Task ReadDoublesAsync(ArtifactReader reader, long offset, Memory<double> target, CancellationToken cancellation)
    {
        var bytes = new byte[Math.Min(1 << 20, target.Length * 8L)];
        for (var done = 0; done < target.Length; done += bytes.Length / 8)
        {
            var count = Math.Min(bytes.Length / 8, target.Length - done);
            await reader.ReadAsync(offset + done * 8L, bytes.AsMemory(0, count * 8), cancellation);
            MemoryMarshal.Cast<byte, double>(bytes.AsSpan(0, count * 8)).CopyTo(target.Span.Slice(done, count));
        }
    }
}
