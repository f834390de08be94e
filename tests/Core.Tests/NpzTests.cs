using System.IO.Compression;
using System.Text;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Xunit;

namespace Serverless.Core.Tests;

public class NpzTests
{
    private static readonly InputSpec[] Inputs = [new("x", TensorElementType.Float, [null, 3], ["batch", ""])];

    [Fact]
    public void Samples_come_one_by_one_with_their_labels()
    {
        using var data = new NpzData(
            Npz(("x", "<f8", "(2, 3)", BitConverterBytes([1, 2, 3, 4, 5, 6])), ("labels", "|u1", "(2,)", [7, 9])),
            "data.npz",
            Inputs
        );
        var samples = data.Read().ToList();
        Assert.Equal(2, samples.Count);
        Assert.Equal([1, 3], samples[1].Inputs["x"].Shape);
        Assert.Equal(5f, BitConverter.ToSingle(samples[1].Inputs["x"].Bytes, 4));
        Assert.Equal([9L], samples[1].Labels!);
    }

    [Theory]
    [InlineData("y", "<f4", "(2, 3)", 24, "has no array 'x'")]
    [InlineData("x", "<i8", "(2, 3)", 48, "holds Int64 where the model takes Float")]
    [InlineData("x", "<c16", "(2, 3)", 96, "not understood")]
    [InlineData("x", "|O", "(2, 3)", 96, "not understood")]
    [InlineData("x", "<f4", "(2, 4)", 32, "has shape [2,4]")]
    [InlineData("x", "<f4", "(2, -3)", 24, "not understood")]
    [InlineData("x", "<f4", "(2, 99999999999)", 24, "samples of more than")]
    [InlineData("x", "<f4", "()", 4, "scalar")]
    [InlineData("x", "<f4", "(0, 3)", 0, "no samples")]
    public void What_does_not_fit_is_said(string name, string type, string shape, int bytes, string what)
    {
        var e = Assert.Throws<BadInputException>(() => new NpzData(Npz((name, type, shape, new byte[bytes])), "data.npz", Inputs));
        Assert.Contains(what, e.Message);
    }

    [Fact]
    public void An_array_shorter_than_its_shape_and_a_bomb_are_refused_in_little_memory()
    {
        using var cut = new NpzData(Npz(("x", "<f4", "(1000000000, 3)", new byte[24])), "data.npz", Inputs);
        Assert.Throws<BadInputException>(() => cut.Read().ToList());
        // A gigabyte of zeros in a megabyte: refused by its sample size before anything is unpacked.
        var before = GC.GetTotalAllocatedBytes();
        InputSpec[] wide = [new("x", TensorElementType.Float, [null, null], ["", ""])];
        Assert.Throws<BadInputException>(() => new NpzData(Npz(("x", "<f4", "(1, 268435456)", new byte[1024])), "data.npz", wide));
        Assert.True(GC.GetTotalAllocatedBytes() - before < 16 << 20);
        Assert.Throws<BadInputException>(() => new NpzData(new MemoryStream([1, 2, 3]), "data.npz", Inputs));
    }

    [Theory]
    [InlineData(CompressionLevel.NoCompression)]
    [InlineData(CompressionLevel.Fastest)]
    public void Reading_from_a_sample_on_gives_what_skipping_gives(CompressionLevel level)
    {
        var values = Enumerable.Range(0, 3000).Select(i => (double)i).ToArray();
        using var data = new NpzData(
            Npz(
                level,
                ("x", "<f8", "(1000, 3)", BitConverterBytes(values)),
                ("labels", "|u1", "(1000,)", [.. Enumerable.Range(0, 1000).Select(i => (byte)i)])
            ),
            "data.npz",
            Inputs
        );
        Assert.Equal(level != CompressionLevel.NoCompression, data.Compressed);
        var all = data.Read().ToList();
        foreach (var first in new[] { 0, 1, 500, 999, 1000, 5000 })
        {
            var some = data.Read(first).ToList();
            Assert.Equal(Math.Max(0, 1000 - first), some.Count);
            Assert.All(
                some.Zip(all.Skip(first)),
                p =>
                {
                    Assert.Equal(p.Second.Inputs["x"].Bytes, p.First.Inputs["x"].Bytes);
                    Assert.Equal(p.Second.Labels, p.First.Labels);
                }
            );
        }
    }

    [Fact]
    public void Compressed_samples_are_passed_over_without_being_kept()
    {
        InputSpec[] wide = [new("x", TensorElementType.Float, [null, 65536], ["", ""])];
        using var data = new NpzData(
            Npz(CompressionLevel.Fastest, ("x", "<f8", "(200, 65536)", new byte[200 * 65536 * 8])),
            "data.npz",
            wide
        );
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Single(data.Read(199));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
    }

    [Theory]
    [InlineData("{'fortran_order': False, 'shape': (2, 3), 'descr': '<f4'}")]
    [InlineData("{'descr': '<f4', 'shape': (2, 3,), 'fortran_order': False }")]
    public void The_keys_of_a_header_come_in_any_order(string header)
    {
        var array = NpyArray.Parse("x", header, 0)!;
        Assert.Equal((TensorElementType.Float, "2,3"), (array.Type, string.Join(',', array.Shape)));
    }

    [Fact]
    public void Passing_over_compressed_samples_can_be_cancelled()
    {
        using var data = new NpzData(Npz(CompressionLevel.Fastest, ("x", "<f8", "(1000, 3)", new byte[24000])), "data.npz", Inputs);
        Assert.Throws<OperationCanceledException>(() => data.Read(999, new CancellationToken(canceled: true)).ToList());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_stored_array_that_says_it_is_longer_or_elsewhere_is_refused(bool longer)
    {
        var bytes = Npz(CompressionLevel.NoCompression, ("x", "<f4", "(2, 3)", new byte[24]), ("labels", "<i8", "(2,)", new byte[16]))
            .ToArray();
        var directory = bytes.AsSpan().IndexOf("PK\u0001\u0002"u8);
        if (longer)
        {
            bytes[directory + 20] += 8;
            bytes[directory + 24] += 8;
        }
        else
            bytes[directory + 42] += 4;
        var e = Assert.Throws<BadInputException>(() =>
        {
            using var data = new NpzData(new MemoryStream(bytes), "data.npz", Inputs);
            return data.Read().ToList();
        });
        Assert.Contains("save it again", e.Message, StringComparison.Ordinal);
    }

    private static byte[] BitConverterBytes(double[] values) => values.SelectMany(BitConverter.GetBytes).ToArray();

    private static MemoryStream Npz(params (string Name, string Type, string Shape, byte[] Bytes)[] arrays) =>
        Npz(CompressionLevel.Optimal, arrays);

    private static MemoryStream Npz(CompressionLevel level, params (string Name, string Type, string Shape, byte[] Bytes)[] arrays)
    {
        var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            foreach (var a in arrays)
            {
                using var entry = zip.CreateEntry(a.Name + ".npy", level).Open();
                var text = $"{{'descr': '{a.Type}', 'fortran_order': False, 'shape': {a.Shape}, }}\n";
                entry.Write([
                    0x93,
                    .. "NUMPY"u8,
                    1,
                    0,
                    (byte)text.Length,
                    (byte)(text.Length >> 8),
                    .. Encoding.ASCII.GetBytes(text),
                    .. a.Bytes,
                ]);
            }
        }
        stream.Position = 0;
        return stream;
    }
}
