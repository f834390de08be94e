using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.TestSupport;

/// <summary>Changes to weights: dims, types, values, where the bytes are.</summary>
internal static class TensorMutations
{
    private static readonly float[] Odd =
    [
        float.NaN,
        float.PositiveInfinity,
        float.NegativeInfinity,
        float.MaxValue,
        1e30f,
        -1e20f,
        1e-40f,
        1e-30f,
        0,
        -0f,
        1,
        65504,
        70000,
    ];

    public static readonly MutationRecipe[] All =
    [
        new(
            "tensor-dim",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        if (t.Dims.Count == 0)
                            return null;
                        var at = r.Next(t.Dims.Count);
                        t.Dims[at] = r.Of<long>([
                            t.Dims[at] + 1,
                            t.Dims[at] - 1,
                            0,
                            -1,
                            1,
                            t.Dims[at] * 2,
                            1L << 31,
                            1L << 40,
                            long.MaxValue,
                        ]);
                        return $"dim {at} = {t.Dims[at]}";
                    }
                )
        ),
        new(
            "tensor-dims-permuted",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        if (t.Dims.Count < 2)
                            return null;
                        (t.Dims[0], t.Dims[^1]) = (t.Dims[^1], t.Dims[0]);
                        return "first and last dims exchanged";
                    }
                )
        ),
        new(
            "tensor-rank",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        var count = t.Dims.Aggregate(1L, (a, b) => a * b);
                        long[] dims = r.Next(4) switch
                        {
                            0 => [count],
                            1 => [1, .. t.Dims],
                            2 => [.. t.Dims, 1],
                            _ => [count, 1],
                        };
                        t.Dims.Clear();
                        t.Dims.AddRange(dims);
                        return $"dims [{string.Join(',', dims)}]";
                    }
                )
        ),
        new("tensor-type", (m, r) => Of(m, r, t => $"type {t.DataType = r.Next(27)}")),
        new(
            "tensor-type-of-same-size",
            (m, r) => Of(m, r, t => $"type {t.DataType = (int)r.Of([DataType.Int32, DataType.Uint32, DataType.Float])}", true)
        ),
        new("tensor-converted", (m, r) => Of(m, r, t => Convert(t, r), true)),
        new("tensor-one-value", (m, r) => Of(m, r, t => Fill(t, r, 1), true)),
        new("tensor-some-values", (m, r) => Of(m, r, t => Fill(t, r, 20), true)),
        new("tensor-constant", (m, r) => Of(m, r, t => Fill(t, r, int.MaxValue), true)),
        new("tensor-scaled", (m, r) => Of(m, r, t => Scale(t, r.Of([1e-38f, 1e-20f, 1e-6f, 1e5f, 1e20f, 1e38f, -1])), true)),
        new(
            "tensor-short",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        if (t.RawData.Length == 0)
                            return null;
                        t.RawData = ByteString.CopyFrom(t.RawData.Span[..r.Next(t.RawData.Length)]);
                        return $"{t.RawData.Length} bytes left";
                    }
                )
        ),
        new(
            "tensor-other-field",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        var keep = r.Next(3) == 0;
                        t.FloatData.AddRange(MemoryMarshal.Cast<byte, float>(t.RawData.Span).ToArray());
                        if (!keep)
                            t.ClearRawData();
                        return keep ? "float_data beside raw_data" : "float_data";
                    },
                    true
                )
        ),
        new(
            "tensor-empty",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        t.ClearRawData();
                        t.FloatData.Clear();
                        t.Dims.Clear();
                        t.Dims.AddRange(
                            r.Of<long[]>([
                                [0],
                                [0, 4],
                                [4, 0],
                                [],
                            ])
                        );
                        return $"dims [{string.Join(',', t.Dims)}] without data";
                    }
                )
        ),
        new(
            "tensor-external",
            (m, r) =>
                Of(
                    m,
                    r,
                    t =>
                    {
                        var (place, length) = (r.Of(["m.onnx", "none.bin", "../x", "/etc/passwd", "", "m.onnx"]), (long)t.RawData.Length);
                        Core.Model.TensorRef.Point(
                            t,
                            place,
                            r.Of<long>([0, 1, 64, 4096, -1, long.MaxValue - 8]),
                            r.Of<long>([length, length, length - 1, 0, -1, long.MaxValue])
                        );
                        return $"data in '{place}'";
                    }
                )
        ),
        new("tensor-nameless", (m, r) => Of(m, r, t => $"name '{t.Name = r.Of(["", " ", "x", "\u001b[31m", new string('n', 3000)])}'")),
    ];

    private static string? Of(ModelProto model, Random random, Func<TensorProto, string?> change, bool floats = false)
    {
        if (random.Tensor(model, floats) is not { } t)
            return null;
        var name = t.Name;
        return change(t) is { } done ? $"'{name}' {done}" : null;
    }

    private static string? Fill(TensorProto t, Random random, int count)
    {
        var bytes = t.RawData.ToByteArray();
        var values = MemoryMarshal.Cast<byte, float>(bytes.AsSpan());
        if (values.Length == 0)
            return null;
        var value = random.Of(Odd);
        if (count == int.MaxValue)
            values.Fill(value);
        else
            for (var i = 0; i < count; i++)
                values[random.Next(values.Length)] = value;
        t.RawData = ByteString.CopyFrom(bytes);
        return $"values {value}";
    }

    private static string? Scale(TensorProto t, float factor)
    {
        var bytes = t.RawData.ToByteArray();
        foreach (ref var v in MemoryMarshal.Cast<byte, float>(bytes.AsSpan()))
            v *= factor;
        t.RawData = ByteString.CopyFrom(bytes);
        return $"values times {factor}";
    }

    private static string Convert(TensorProto t, Random random)
    {
        var values = MemoryMarshal.Cast<byte, float>(t.RawData.Span).ToArray();
        var to = random.Of([DataType.Float16, DataType.Bfloat16, DataType.Double, DataType.Int8, DataType.Int64]);
        byte[] bytes = to switch
        {
            DataType.Float16 => MemoryMarshal.AsBytes<Half>(values.Select(v => (Half)v).ToArray()).ToArray(),
            DataType.Bfloat16 => MemoryMarshal
                .AsBytes<ushort>(values.Select(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)).ToArray())
                .ToArray(),
            DataType.Double => MemoryMarshal.AsBytes<double>(values.Select(v => (double)v).ToArray()).ToArray(),
            DataType.Int8 => values.Select(v => (byte)(sbyte)Math.Clamp(v * 100, -127, 127)).ToArray(),
            _ => MemoryMarshal.AsBytes<long>(values.Select(v => (long)v).ToArray()).ToArray(),
        };
        (t.DataType, t.RawData) = ((int)to, ByteString.CopyFrom(bytes));
        return $"to {to}";
    }
}
