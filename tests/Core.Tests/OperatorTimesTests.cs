using System.Text;
using Serverless.Core.Execution;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>The table of operators and shapes of a machine.</summary>
public class OperatorTimesTests
{
    private static OperatorCall Product(long rows, long inputs, long outputs) =>
        new("MatMul", 17, [], [new Operand(DataType.Float, [rows, inputs], false), new Operand(DataType.Float, [inputs, outputs], true)]);

    [Fact]
    public void What_was_measured_once_is_not_measured_again_in_this_run_or_a_later_one()
    {
        var asked = 0;
        var first = new OperatorTimes("machine", (_, _) => ++asked);
        Assert.Equal(1, first.Milliseconds(Product(1, 8, 8), default));
        Assert.Equal(1, first.Milliseconds(Product(1, 8, 8), default));
        Assert.Equal(2, first.Milliseconds(Product(1, 8, 16), default));
        var later = new OperatorTimes("machine", (_, _) => throw new InvalidOperationException("It is known."));
        later.Read(first.Write());
        Assert.Equal((2, 0), (later.Count, later.Measured));
        Assert.Equal(2, later.Milliseconds(Product(1, 8, 16), default));
        // Another machine's times say nothing here.
        var elsewhere = new OperatorTimes("another machine", (_, _) => 9);
        elsewhere.Read(first.Write());
        Assert.Equal((0, 9), (elsewhere.Count, elsewhere.Milliseconds(Product(1, 8, 8), default)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("null")]
    [InlineData("[1]")]
    [InlineData("{\"version\":1,\"machine\":\"machine\"}")]
    [InlineData("{\"version\":1,\"machine\":\"machine\",\"times\":{\"a\":-1,\"b\":1e300,\"c\":0}}")]
    [InlineData("{\"version\":1,\"machine\":\"machine\",\"times\":{\"a\":\"fast\"}}")]
    [InlineData("{\"version\":2,\"machine\":\"machine\",\"times\":{\"a\":1}}")]
    public void A_damaged_table_is_read_as_an_empty_one(string text)
    {
        var times = new OperatorTimes("machine", (_, _) => 3);
        times.Read(Encoding.UTF8.GetBytes(text));
        Assert.Equal(0, times.Count);
        Assert.Equal(3, times.Milliseconds(Product(1, 8, 8), default));
    }

    [Fact]
    public async Task A_damaged_file_of_the_store_is_measured_anew_and_written_over()
    {
        using var folder = new Folder();
        var store = new PlainStore(new FolderStore(new Dictionary<string, string> { ["work"] = folder.Path }));
        var times = await MachineTimes.OpenAsync(store, default);
        Assert.NotNull(times.Times.Milliseconds(Product(2, 16, 16), default));
        await times.KeepAsync(default);
        var file = Assert.Single(Directory.GetFiles(folder.Path));
        Assert.Equal(1, (await MachineTimes.OpenAsync(store, default)).Times.Count);
        await File.WriteAllBytesAsync(file, (await File.ReadAllBytesAsync(file))[..20]);
        times = await MachineTimes.OpenAsync(store, default);
        Assert.Equal(0, times.Times.Count);
        Assert.NotNull(times.Times.Milliseconds(Product(2, 16, 16), default));
        await times.KeepAsync(default);
        Assert.Equal(1, (await MachineTimes.OpenAsync(store, default)).Times.Count);
    }

    [Fact]
    public void Times_between_measured_channel_counts_lie_on_straight_lines_and_never_fall()
    {
        // A clock that says less for more channels now and then.
        var random = new Random(1);
        var noisy = ChannelTimes.Of((128, true), (96, true), (o, i) => o * i * (0.7 + 0.6 * random.NextDouble()))!;
        for (var o = 8; o < 128; o += 8)
        for (var i = 8; i < 96; i += 8)
            Assert.True(noisy.At(o + 8, i) >= noisy.At(o, i) && noisy.At(o, i + 8) >= noisy.At(o, i), $"{o} {i}");
        var asked = new List<(long, long)>();
        var plain = ChannelTimes.Of(
            (128, true),
            (96, false),
            (o, i) =>
            {
                asked.Add((o, i));
                return o + 2 * i;
            }
        )!;
        Assert.Equal([(16L, 96L), (48L, 96L), (88L, 96L), (128L, 96L)], asked);
        Assert.Equal(100 + 192, plain.At(100, 96), 1e-9);
        Assert.Equal(16 + 192, plain.At(8, 96), 1e-9);
        Assert.Null(ChannelTimes.Of((128, true), (96, true), (o, _) => o > 100 ? null : 1));
    }

    [Fact]
    public void Only_what_can_be_run_alone_is_measured()
    {
        Assert.True(OperatorTimer.Measure(Product(4, 32, 32), default) > 0);
        Assert.Null(OperatorTimer.Measure(Product(4, 1L << 40, 1L << 40), default));
        Assert.Null(OperatorTimer.Measure(Product(4, 0, 32), default));
        Assert.Null(OperatorTimer.Measure(Product(4, 32, 32) with { Op = "Nothing" }, default));
    }

    // Hides that it is a store of folders, as a blob store is none.
    private sealed class PlainStore(IArtifactStore inner) : IArtifactStore
    {
        public Task<Artifact?> FindAsync(string path, CancellationToken cancellation) => inner.FindAsync(path, cancellation);

        public Task<ArtifactReader> OpenAsync(string path, string? etag, CancellationToken cancellation) =>
            inner.OpenAsync(path, etag, cancellation);

        public Task<Artifact> WriteAsync(string path, Func<Stream, CancellationToken, Task> write, CancellationToken cancellation) =>
            inner.WriteAsync(path, write, cancellation);

        public Task<bool> TryCreateAsync(string path, ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
            inner.TryCreateAsync(path, bytes, cancellation);

        public IAsyncEnumerable<Artifact> ListAsync(string prefix, CancellationToken cancellation) => inner.ListAsync(prefix, cancellation);

        public Task DeleteAsync(string path, CancellationToken cancellation) => inner.DeleteAsync(path, cancellation);

        public Task PublishAsync(string fromPrefix, string toPrefix, CancellationToken cancellation) =>
            inner.PublishAsync(fromPrefix, toPrefix, cancellation);

        public Task<LocalFolder> MaterializeAsync(
            string folder,
            IReadOnlyDictionary<string, string?> files,
            CancellationToken cancellation
        ) => inner.MaterializeAsync(folder, files, cancellation);
    }
}
