using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>An array of a <c>.npz</c>, as its header says (NumPy Enhancement Proposal 1).</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Dimensions; the first is the sample.</param>
/// <param name="Start">Bytes before the first sample.</param>
internal sealed record NpyArray(string Name, TensorElementType Type, long[] Shape, long Start)
{
    private const int SkipBytes = 1 << 16;

    /// <summary>Name of its file in the archive.</summary>
    public string Entry => Name + ".npy";

    /// <summary>Bytes of a sample.</summary>
    public long SampleBytes => Model.TensorRef.Count(Shape[1..])!.Value * ElementTypes.Size(Type);

    /// <summary>Reads a header; null when it is of no array that is taken here.</summary>
    public static NpyArray? Parse(string name, string header, long start)
    {
        if (Field(header, "'descr':") is not { } descr || Field(header, "'fortran_order':") is not { } order)
            return null;
        if (!order.StartsWith("False", StringComparison.Ordinal))
            return null;
        TensorElementType? type = descr.Trim('\'', ' ') switch
        {
            "<f4" => TensorElementType.Float,
            "<f8" => TensorElementType.Double,
            "<f2" => TensorElementType.Float16,
            "<i8" => TensorElementType.Int64,
            "<i4" => TensorElementType.Int32,
            "<i2" => TensorElementType.Int16,
            "|i1" => TensorElementType.Int8,
            "|u1" => TensorElementType.UInt8,
            "<u2" => TensorElementType.UInt16,
            "<u4" => TensorElementType.UInt32,
            "<u8" => TensorElementType.UInt64,
            "|b1" => TensorElementType.Bool,
            _ => null,
        };
        var open = header.IndexOf("'shape':", StringComparison.Ordinal);
        var (left, right) = (header.IndexOf('(', Math.Max(open, 0)), header.IndexOf(')', Math.Max(open, 0)));
        if (type is null || open < 0 || left < 0 || right < left)
            return null;
        var dims = new List<long>();
        foreach (var part in header[(left + 1)..right].Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (!long.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var d))
                return null;
            dims.Add(d);
        }
        return new NpyArray(name, type.Value, [.. dims], start);
    }

    /// <summary>Reads the next samples.</summary>
    /// <param name="stream">Where they are.</param>
    /// <param name="path">The file, for errors.</param>
    /// <param name="at">Number of the first of them.</param>
    /// <param name="batch">How many.</param>
    /// <param name="type">Element type to convert to.</param>
    /// <param name="shape">Dimensions of the result.</param>
    /// <exception cref="BadInputException">The array ends before, or holds NaN or infinity.</exception>
    public TensorValue Next(Stream stream, string path, long at, long batch, TensorElementType type, long[] shape)
    {
        var raw = new byte[checked((int)(batch * SampleBytes))];
        try
        {
            stream.ReadExactly(raw);
        }
        catch (Exception e) when (e is EndOfStreamException or InvalidDataException)
        {
            throw Short(path, e);
        }
        if (FirstNotFinite(raw, Type) is { } place and >= 0)
        {
            throw new BadInputException(
                $"{path}, array '{Name}': sample {at + place / (SampleBytes / ElementTypes.Size(Type))} (from 0) holds NaN or infinity; "
                    + "leave such samples out, or replace the numbers."
            );
        }
        if (type == Type)
            return new TensorValue(type, shape, raw);
        var count = raw.Length / ElementTypes.Size(Type);
        var converted = new byte[count * ElementTypes.Size(type)];
        for (var i = 0; i < count; i++)
            ElementTypes.Set(converted, type, i, ElementTypes.Get(raw, Type, i));
        return new TensorValue(type, shape, converted);
    }

    /// <summary>Reads over bytes.</summary>
    /// <exception cref="BadInputException">The array ends before.</exception>
    public void Skip(Stream stream, long bytes, string path, CancellationToken cancellation)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(SkipBytes);
        try
        {
            for (var left = bytes; left > 0; )
            {
                cancellation.ThrowIfCancellationRequested();
                var read = stream.Read(buffer, 0, (int)Math.Min(buffer.Length, left));
                if (read == 0)
                    throw Short(path, new EndOfStreamException());
                left -= read;
            }
        }
        catch (InvalidDataException e)
        {
            throw Short(path, e);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    // Index of the first element that is NaN or infinite, or −1.
    private static long FirstNotFinite(byte[] raw, TensorElementType type) =>
        type switch
        {
            TensorElementType.Float => First(MemoryMarshal.Cast<byte, float>(raw), float.IsFinite),
            TensorElementType.Double => First(MemoryMarshal.Cast<byte, double>(raw), double.IsFinite),
            TensorElementType.Float16 => First(MemoryMarshal.Cast<byte, Half>(raw), Half.IsFinite),
            _ => -1,
        };

    private static long First<T>(ReadOnlySpan<T> values, Func<T, bool> isFinite)
    {
        for (var i = 0; i < values.Length; i++)
            if (!isFinite(values[i]))
                return i;
        return -1;
    }

    private BadInputException Short(string path, Exception e) =>
        new($"{path}, array '{Name}': holds less data than its shape [{string.Join(',', Shape)}] says; save it again with numpy.savez.", e);

    private static string? Field(string header, string key)
    {
        var at = header.IndexOf(key, StringComparison.Ordinal);
        if (at < 0)
            return null;
        var end = header.AsSpan(at).IndexOfAny(',', '}') is var length and >= 0 ? at + length : -1;
        return end < 0 ? null : header[(at + key.Length)..end].Trim();
    }
}
