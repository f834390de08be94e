using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Where a tensor's bytes are: a range of a file beside the model, or inline in the graph. Little-endian, packed,
/// row-major, as <c>raw_data</c> is (onnx.proto, TensorProto).
/// </summary>
/// <param name="DataType">ONNX element type.</param>
/// <param name="Dims">Dimensions, each ≥ 0; empty for a scalar.</param>
/// <param name="File">File name relative to the model's folder, or null when the bytes are inline.</param>
/// <param name="Offset">First byte in the file.</param>
/// <param name="Length">Bytes.</param>
public sealed record TensorRef(int DataType, long[] Dims, string? File, long Offset, long Length)
{
    /// <summary>Number of elements.</summary>
    public long Elements => Count(Dims) ?? 0;

    /// <summary>Product of the dimensions; null when one is negative or the product overflows 2^60.</summary>
    public static long? Count(IEnumerable<long> dims)
    {
        long n = 1;
        var zero = false;
        foreach (var d in dims)
        {
            if (d < 0)
                return null;
            if (d == 0)
            {
                zero = true;
                continue;
            }
            if (n > (1L << 60) / d)
                return null;
            n *= d;
        }
        return zero ? 0 : n;
    }

    /// <summary>Reads where a tensor's bytes are, without touching them.</summary>
    /// <param name="tensor">The tensor as indexed.</param>
    /// <param name="place">How to name it in an error.</param>
    /// <exception cref="BadInputException">Impossible dims, or a range that does not hold the tensor.</exception>
    public static TensorRef From(TensorProto tensor, string place)
    {
        var dims = tensor.Dims.ToArray();
        var count =
            Count(dims)
            ?? throw new BadInputException($"{place}: dims [{string.Join(',', dims)}] are negative or overflow; export the model again.");
        var bits = DataTypes.Bits(tensor.DataType);
        if (bits > 0 && count > long.MaxValue / 128)
            throw new BadInputException($"{place}: dims [{string.Join(',', dims)}] overflow; export the model again.");
        var expected = checked((count * bits + 7) / 8);
        if (tensor.DataLocation != TensorProto.Types.DataLocation.External)
        {
            var stored = InlineLength(tensor);
            if (bits > 0 && stored != expected)
                throw new BadInputException(
                    $"{place}: holds {stored} bytes of data where its dims and type need {expected}; export the model again."
                );
            return new TensorRef(tensor.DataType, dims, null, 0, stored);
        }
        string? location = null;
        long offset = 0,
            length = -1;
        foreach (var entry in tensor.ExternalData)
        {
            if (entry.Key == "location")
                location = entry.Value;
            else if (entry.Key == "offset")
                offset = Parse(entry.Value);
            else if (entry.Key == "length")
                length = Parse(entry.Value);
        }
        if (location is null)
            throw new BadInputException($"{place}: external data names no location; save the model again.");
        location = Storage.StorePath.Normal(location);
        if (Storage.StorePath.WhyUnsafe(location) is { } why)
            throw new BadInputException($"{place}: the external data path '{Shown(location)}' {why}; keep external data beside the model.");
        if (bits == 0)
            throw new BadInputException(
                $"{place}: external data of type {DataTypes.Name(tensor.DataType)} is not supported; store it inline."
            );
        if (length < 0)
            length = expected;
        if (length != expected)
            throw new BadInputException(
                $"{place}: external data is {length} bytes where its dims and type need {expected}; save the model again."
            );
        return new TensorRef(tensor.DataType, dims, location, offset, length);

        long Parse(string text) =>
            long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var v)
                ? v
                : throw new BadInputException(
                    $"{place}: external data offset or length '{Shown(text)}' is not a whole number; save the model again."
                );
    }

    /// <summary>Makes the tensor point at a byte range of a file.</summary>
    public static void Point(TensorProto tensor, string location, long offset, long length)
    {
        tensor.ClearRawData();
        tensor.FloatData.Clear();
        tensor.DoubleData.Clear();
        tensor.Int32Data.Clear();
        tensor.ExternalData.Clear();
        tensor.DataLocation = TensorProto.Types.DataLocation.External;
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "offset", Value = offset.ToString(CultureInfo.InvariantCulture) });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "length", Value = length.ToString(CultureInfo.InvariantCulture) });
    }

    /// <summary>The bytes of an inline tensor in <c>raw_data</c> form, decoded from whichever field holds them.</summary>
    public static ReadOnlyMemory<byte> InlineBytes(TensorProto tensor)
    {
        if (tensor.HasRawData && tensor.RawData.Length > 0)
            return tensor.RawData.Memory;
        if (tensor.FloatData.Count > 0)
            return MemoryMarshal.AsBytes<float>(tensor.FloatData.ToArray()).ToArray();
        if (tensor.DoubleData.Count > 0)
            return MemoryMarshal.AsBytes<double>(tensor.DoubleData.ToArray()).ToArray();
        if (tensor.Int64Data.Count > 0)
            return MemoryMarshal.AsBytes<long>(tensor.Int64Data.ToArray()).ToArray();
        var width = DataTypes.Bits(tensor.DataType) / 8;
        if (tensor.Uint64Data.Count > 0)
            return width == 4
                ? MemoryMarshal.AsBytes<uint>(tensor.Uint64Data.Select(v => (uint)v).ToArray()).ToArray()
                : MemoryMarshal.AsBytes<ulong>(tensor.Uint64Data.ToArray()).ToArray();
        if (tensor.Int32Data.Count == 0)
            return ReadOnlyMemory<byte>.Empty;
        var bytes = new byte[tensor.Int32Data.Count * Math.Max(1, width)];
        for (var i = 0; i < tensor.Int32Data.Count; i++)
        {
            var v = tensor.Int32Data[i];
            if (width == 4)
                BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(i * 4), v);
            else if (width == 2)
                BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(i * 2), (ushort)v);
            else
                bytes[i] = (byte)v;
        }
        return bytes;
    }

    private static long InlineLength(TensorProto t)
    {
        if (t.HasRawData && t.RawData.Length > 0)
            return t.RawData.Length;
        var width = DataTypes.Bits(t.DataType) / 8;
        long n = t.FloatData.Count * 4L + t.DoubleData.Count * 8L + t.Int64Data.Count * 8L;
        n += t.Uint64Data.Count * (width == 4 ? 4L : 8L);
        return n + t.Int32Data.Count * (long)Math.Max(1, width);
    }

    private static string Shown(string text) => text.Length <= 60 ? text : text[..60] + "…";
}
