using System.IO.Compression;
using System.Text;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Evaluation;
using Xunit;

namespace Serverless.Core.Tests;

public class NpzTests
{
    private static readonly InputSpec[] Inputs = [new("x", TensorElementType.Float, [null, 3], ["batch", ""])];

    [Fact]
    public void Samples_come_one_by_one_with_their_labels()
    {
        using var data = new NpzData(Npz(("x", "<f8", "(2, 3)", BitConverterBytes([1, 2, 3, 4, 5, 6])), ("labels", "|u1", "(2,)", [7, 9])), "data.npz", Inputs);
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

    private static byte[] BitConverterBytes(double[] values) => values.SelectMany(BitConverter.GetBytes).ToArray();

    private static MemoryStream Npz(params (string Name, string Type, string Shape, byte[] Bytes)[] arrays)
    {
        var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            foreach (var a in arrays)
            {
                using var entry = zip.CreateEntry(a.Name + ".npy").Open();
                var text = $"{{'descr': '{a.Type}', 'fortran_order': False, 'shape': {a.Shape}, }}\n";
                entry.Write([0x93, .. "NUMPY"u8, 1, 0, (byte)text.Length, (byte)(text.Length >> 8), .. Encoding.ASCII.GetBytes(text), .. a.Bytes]);
            }
        }
        stream.Position = 0;
        return stream;
    }
}
