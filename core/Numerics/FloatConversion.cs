using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Numerics;

/// <summary>Conversion of stored little-endian weights to float.</summary>
public static class FloatConversion
{
    /// <summary>Converts raw elements of a weight type to floats; doubles are rounded to nearest.</summary>
    /// <param name="raw">As stored; length = elements × element size.</param>
    /// <param name="dataType">FLOAT, DOUBLE, FLOAT16 or BFLOAT16.</param>
    /// <param name="floats">One a stored element.</param>
    public static void ToFloat(ReadOnlySpan<byte> raw, int dataType, Span<float> floats)
    {
        switch ((DataType)dataType)
        {
            case DataType.Float:
                MemoryMarshal.Cast<byte, float>(raw).CopyTo(floats);
                break;
            case DataType.Double:
                TensorPrimitives.ConvertTruncating(MemoryMarshal.Cast<byte, double>(raw), floats);
                break;
            case DataType.Float16:
                TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(raw), floats);
                break;
            case DataType.Bfloat16:
                var halves = MemoryMarshal.Cast<byte, ushort>(raw);
                var bits = MemoryMarshal.Cast<float, uint>(floats);
                for (var i = 0; i < halves.Length; i++)
                    bits[i] = (uint)halves[i] << 16;
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(dataType), DataTypes.Name(dataType), "Not a weight type.");
        }
    }

    /// <summary>Floats as stored elements, rounded to nearest, ties to even.</summary>
    /// <param name="floats">Finite values.</param>
    /// <param name="dataType">FLOAT, DOUBLE, FLOAT16 or BFLOAT16.</param>
    public static byte[] FromFloat(ReadOnlySpan<float> floats, int dataType)
    {
        var raw = new byte[floats.Length * (DataTypes.Bits(dataType) / 8)];
        FromFloat(floats, dataType, raw);
        return raw;
    }

    /// <summary>Converts floats to stored elements, rounded to nearest, ties to even.</summary>
    /// <param name="floats">Finite values.</param>
    /// <param name="dataType">FLOAT, DOUBLE, FLOAT16 or BFLOAT16.</param>
    /// <param name="raw">Receives the elements; length = elements × element size.</param>
    public static void FromFloat(ReadOnlySpan<float> floats, int dataType, Span<byte> raw)
    {
        switch ((DataType)dataType)
        {
            case DataType.Float:
                MemoryMarshal.AsBytes(floats).CopyTo(raw);
                break;
            case DataType.Double:
                TensorPrimitives.ConvertTruncating(floats, MemoryMarshal.Cast<byte, double>(raw));
                break;
            case DataType.Float16:
                TensorPrimitives.ConvertToHalf(floats, MemoryMarshal.Cast<byte, Half>(raw));
                break;
            case DataType.Bfloat16:
                var halves = MemoryMarshal.Cast<byte, ushort>(raw);
                for (var i = 0; i < halves.Length; i++)
                    halves[i] = ToBfloat16(floats[i]);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(dataType), DataTypes.Name(dataType), "Not a weight type.");
        }
    }

    /// <summary>Rounds a finite float to bfloat16, ties to even.</summary>
    public static ushort ToBfloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}
