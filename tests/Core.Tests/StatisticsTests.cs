using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

public class StatisticsTests
{
    private static readonly InputView Rows = new("x", 40, null);
    private const StatisticKinds Everything =
        StatisticKinds.Range | StatisticKinds.Histogram | StatisticKinds.Channels | StatisticKinds.Gram | StatisticKinds.Squares;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Parts_merge_to_the_same_bytes_in_whatever_order_they_were_made(bool spill)
    {
        using var folder = new Folder();
        var samples = Enumerable
            .Range(0, 12)
            .Select(i => TestModels.Random($"sample{i}", 30, 40).Select(v => v * (1 + i)).ToArray())
            .ToList();
        foreach (var order in new[] { new[] { 0, 1, 2 }, [2, 0, 1], [1, 2, 0] })
        {
            foreach (var shard in order)
            {
                using var observer = new StatisticsObserver(Rows, Everything, _ => spill);
                foreach (var s in samples.Skip(shard * 4).Take(4))
                    observer.Add(s, [1, 30, 40]);
                await StatisticsSet.WriteAsync(
                    folder.Store,
                    $"drop/{shard}",
                    async (writer, token) =>
                    {
                        await writer.AddAsync(6, 0, stream => stream.WriteAsync(new byte[shard], token).AsTask());
                        await writer.AddAsync(7, 0, stream => StatisticsFile.WriteAsync(stream, observer, token));
                    },
                    CancellationToken.None
                );
            }
            var parts = new List<ArtifactReader>();
            foreach (var shard in new[] { 0, 1, 2 })
                parts.Add(await StatisticsSet.OpenAsync(folder.Store, $"drop/{shard}", 7, 0, CancellationToken.None));
            await folder.Store.WriteAsync(
                $"drop/whole-{order[0]}",
                (stream, token) => StatisticsFile.MergeAsync(parts, stream, Memory<double>.Empty, token),
                CancellationToken.None
            );
            foreach (var part in parts)
                await part.DisposeAsync();
        }
        var first = File.ReadAllBytes(Path.Combine(folder.Path, "whole-0"));
        Assert.Equal(first, File.ReadAllBytes(Path.Combine(folder.Path, "whole-1")));
        Assert.Equal(first, File.ReadAllBytes(Path.Combine(folder.Path, "whole-2")));

        await using var reader = await folder.Store.OpenAsync("drop/whole-0", null, CancellationToken.None);
        var merged = await StatisticsFile.ReadAsync(reader, CancellationToken.None);
        var gram = await merged.ReadGramAsync!(0, CancellationToken.None);
        Assert.Equal((12, 12 * 30, 12 * 30), (merged.Samples, merged.GramRows, merged.SquaresRows));
        Assert.Equal((samples.Min(s => s.Min()), samples.Max(s => s.Max())), (merged.Min, merged.Max));
        Assert.Equal(12 * 30 * 40, merged.Histogram!.Counts.Sum());
        for (var i = 0; i < 40; i += 7)
        {
            var column = samples.SelectMany(s => Enumerable.Range(0, 30).Select(r => (double)s[r * 40 + i])).ToList();
            Assert.Equal(column.Sum(), merged.Channels!.Sum[i], 1e-4);
            Assert.Equal(column.Sum(Math.Abs), merged.Channels.Magnitudes[i], 1e-3);
            Assert.Equal(column.Max(Math.Abs), merged.Channels.Largest(i));
            Assert.Equal(
                (Math.Min(0, (float)column.Min()), Math.Max(0, (float)column.Max())),
                (merged.Channels.Min[i], merged.Channels.Max[i])
            );
            Assert.Equal(gram[i * 40 + i], merged.Squares![0][i], 1e-9 * gram[i * 40 + i]);
            for (var j = 0; j < 40; j += 5)
                Assert.Equal(
                    samples.Sum(s => Enumerable.Range(0, 30).Sum(r => (double)s[r * 40 + i] * s[r * 40 + j])),
                    gram[i * 40 + j],
                    1e-7
                );
        }
    }

    [Fact]
    public void A_moving_average_of_parts_is_that_of_the_whole()
    {
        var ranges = Enumerable.Range(1, 50).Select(i => (-i * 0.1f, i * 0.3f)).ToList();
        var whole = ranges.Aggregate(MovingRange.Empty, (a, r) => a.Then(r.Item1, r.Item2));
        var parts = ranges
            .Chunk(7)
            .Select(c => c.Aggregate(MovingRange.Empty, (a, r) => a.Then(r.Item1, r.Item2)))
            .Aggregate(MovingRange.Empty, (a, p) => a.Then(p));
        Assert.Equal(whole.Value.Min, parts.Value.Min, 1e-5f);
        Assert.Equal(whole.Value.Max, parts.Value.Max, 1e-5f);
        Assert.Equal((5f, 7f), MovingRange.Empty.Then(5, 7).Value);
    }

    [Fact]
    public void Histograms_merge_exactly_whatever_their_widths()
    {
        var (small, large) = (TestModels.Random("a", 5000), TestModels.Random("b", 5000).Select(v => v * 1000).ToArray());
        Histogram Of(params float[][] parts)
        {
            var h = new Histogram();
            foreach (var p in parts)
                h.Add(p, p.Max(Math.Abs));
            return h;
        }
        var together = Of(small, large);
        foreach (var (a, b) in new[] { (Of(small), Of(large)), (Of(large), Of(small)) })
        {
            a.Add(b);
            Assert.Equal((together.Exponent, string.Join(',', together.Counts)), (a.Exponent, string.Join(',', a.Counts)));
        }
        var bin = Array.FindIndex(together.Counts, c => c > 0);
        Assert.InRange(large.Min(), (bin - Histogram.Half) * together.Width, (bin - Histogram.Half + 1) * together.Width);
    }

    [Fact]
    public void Patches_of_a_convolution_are_what_it_multiplies()
    {
        // 2 groups of 2 channels, 3×2 kernel, strides 2 and 1, dilation 1 and 2, uneven padding.
        var window = new ConvWindow([3, 2], [2, 1], [1, 2], [1, 0, 2, 1], false, 2);
        var view = new InputView("x", 2 * 6, window);
        var x = Enumerable.Range(0, 4 * 6 * 5).Select(i => (float)i).ToArray();
        var (height, width, _, _) = InputRows.Output(window, 6, 5);
        Assert.Equal((4, 4), (height, width));
        var rows = new double[16 * 12];
        Assert.Equal(16, InputRows.Take(x, [1, 4, 6, 5], view, 1, 100, rows));
        for (var y = 0; y < 4; y++)
        for (var column = 0; column < 4; column++)
        for (var c = 0; c < 2; c++)
        for (var ky = 0; ky < 3; ky++)
        for (var kx = 0; kx < 2; kx++)
        {
            var (iy, ix) = (y * 2 - 1 + ky, column + kx * 2);
            var expected = iy is < 0 or >= 6 || ix >= 5 ? 0 : x[(2 + c) * 30 + iy * 5 + ix];
            Assert.Equal(expected, rows[(y * 4 + column) * 12 + (c * 3 + ky) * 2 + kx]);
        }
    }

    [Fact]
    public void Squares_of_a_grouped_convolution_are_the_diagonals_of_its_gram_matrices()
    {
        var view = new InputView("x", 2 * 9, new ConvWindow([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], false, 2));
        using var observer = new StatisticsObserver(view, StatisticKinds.Squares, _ => false);
        var expected = new double[2][];
        foreach (var (g, gram) in new[] { new GramMatrix(18, false), new GramMatrix(18, false) }.Index())
        {
            foreach (var name in new[] { "a", "b" })
                gram.Added(InputRows.Take(TestModels.Random(name, 4 * 36), [1, 4, 6, 6], view, g, 36, gram.Next));
            expected[g] = [.. Enumerable.Range(0, 18).Select(k => gram.ToArray()[k * 18 + k])];
            gram.Dispose();
        }
        foreach (var name in new[] { "a", "b" })
            observer.Add(TestModels.Random(name, 4 * 36), [1, 4, 6, 6]);
        // What is not finite says nothing.
        observer.Add([.. Enumerable.Repeat(float.NaN, 4 * 36)], [1, 4, 6, 6]);
        var result = observer.Result;
        Assert.Equal((2, 2 * 36, 0), (result.Squares!.Length, result.SquaresRows, result.GramAxis));
        for (var g = 0; g < 2; g++)
        for (var k = 0; k < 18; k++)
            Assert.Equal(expected[g][k], result.Squares[g][k], 1e-9);
    }

    [Theory]
    [InlineData(RangeMethod.Entropy)]
    [InlineData(RangeMethod.Percentile)]
    public void Ranges_hold_the_values_that_matter_and_let_single_outliers_go(RangeMethod method)
    {
        // What a Relu leaves of normal values, and one in ten thousand a hundred times as large.
        var values = TestModels.Random("activation", 200_000).Select((v, i) => i % 10_000 == 0 ? 40f : MathF.Max(0, v)).ToArray();
        using var observer = new StatisticsObserver(
            new InputView("x", 0, null),
            StatisticKinds.Range | StatisticKinds.Histogram,
            _ => false
        );
        observer.Add(values, [200_000]);
        var (min, max) = ActivationRange.Find(observer.Result, method, 99.9);
        Assert.Equal((0f, 40f), ActivationRange.Find(observer.Result, RangeMethod.Minmax, 100));
        Assert.Equal(0, min);
        Assert.InRange(max, 0.3f, 20f);
        double Error(float top) =>
            values.Where(v => v < 40).Sum(v => Math.Pow(v - Math.Clamp(Math.Round(v / (top / 255)), 0, 255) * (top / 255), 2));
        Assert.True(Error(max) < Error(40), $"{Error(max)} and {Error(40)}");
    }
}
