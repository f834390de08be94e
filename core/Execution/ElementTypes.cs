using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace Serverless.Core.Execution;

/// <summary>Conversion between element types of inputs and outputs.</summary>
internal static class ElementTypes
{
    /// <summary>Bytes of an element; 0 for types that are not plain numbers.</summary>
    public static int Size(TensorElementType type) =>
        type switch
        {
            TensorElementType.Bool or TensorElementType.Int8 or TensorElementType.UInt8 => 1,
            TensorElementType.Int16 or TensorElementType.UInt16 or TensorElementType.Float16 or TensorElementType.BFloat16 => 2,
            TensorElementType.Float or TensorElementType.Int32 or TensorElementType.UInt32 => 4,
            TensorElementType.Double or TensorElementType.Int64 or TensorElementType.UInt64 => 8,
            _ => 0,
        };

    /// <summary>Whether the type holds real numbers.</summary>
    public static bool IsFloat(TensorElementType type) =>
        type is TensorElementType.Float or TensorElementType.Double or TensorElementType.Float16 or TensorElementType.BFloat16;

    /// <summary>Whether the type holds whole numbers or truth values.</summary>
    public static bool IsWhole(TensorElementType type) => Size(type) > 0 && !IsFloat(type);

    /// <summary>Element <paramref name="i"/> as a double.</summary>
    public static double Get(ReadOnlySpan<byte> bytes, TensorElementType type, int i) =>
        type switch
        {
            TensorElementType.Float => MemoryMarshal.Cast<byte, float>(bytes)[i],
            TensorElementType.Double => MemoryMarshal.Cast<byte, double>(bytes)[i],
            TensorElementType.Float16 => (double)MemoryMarshal.Cast<byte, Half>(bytes)[i],
            TensorElementType.BFloat16 => BitConverter.UInt32BitsToSingle((uint)MemoryMarshal.Cast<byte, ushort>(bytes)[i] << 16),
            TensorElementType.Int64 => MemoryMarshal.Cast<byte, long>(bytes)[i],
            TensorElementType.UInt64 => MemoryMarshal.Cast<byte, ulong>(bytes)[i],
            TensorElementType.Int32 => MemoryMarshal.Cast<byte, int>(bytes)[i],
            TensorElementType.UInt32 => MemoryMarshal.Cast<byte, uint>(bytes)[i],
            TensorElementType.Int16 => MemoryMarshal.Cast<byte, short>(bytes)[i],
            TensorElementType.UInt16 => MemoryMarshal.Cast<byte, ushort>(bytes)[i],
            TensorElementType.Int8 => (sbyte)bytes[i],
            _ => bytes[i],
        };

    /// <summary>Elements from one on as doubles.</summary>
    /// <param name="bytes">The tensor's bytes.</param>
    /// <param name="type">Its type.</param>
    /// <param name="start">The first element.</param>
    /// <param name="values">Where they go, as many as it is long.</param>
    public static void Read(ReadOnlySpan<byte> bytes, TensorElementType type, int start, Span<double> values)
    {
        if (type == TensorElementType.Float)
        {
            var floats = MemoryMarshal.Cast<byte, float>(bytes).Slice(start, values.Length);
            for (var i = 0; i < floats.Length; i++)
                values[i] = floats[i];
        }
        else
        {
            for (var i = 0; i < values.Length; i++)
                values[i] = Get(bytes, type, start + i);
        }
    }

    /// <summary>Sets element <paramref name="i"/>.</summary>
    public static void Set(Span<byte> bytes, TensorElementType type, int i, double value)
    {
        switch (type)
        {
            case TensorElementType.Float:
                MemoryMarshal.Cast<byte, float>(bytes)[i] = (float)value;
                break;
            case TensorElementType.Double:
                MemoryMarshal.Cast<byte, double>(bytes)[i] = value;
                break;
            case TensorElementType.Float16:
                MemoryMarshal.Cast<byte, Half>(bytes)[i] = (Half)value;
                break;
            case TensorElementType.BFloat16:
                MemoryMarshal.Cast<byte, ushort>(bytes)[i] = (ushort)(BitConverter.SingleToUInt32Bits((float)value) >> 16);
                break;
            case TensorElementType.Int64:
                MemoryMarshal.Cast<byte, long>(bytes)[i] = (long)value;
                break;
            case TensorElementType.UInt64:
                MemoryMarshal.Cast<byte, ulong>(bytes)[i] = (ulong)value;
                break;
            case TensorElementType.Int32:
                MemoryMarshal.Cast<byte, int>(bytes)[i] = (int)value;
                break;
            case TensorElementType.UInt32:
                MemoryMarshal.Cast<byte, uint>(bytes)[i] = (uint)value;
                break;
            case TensorElementType.Int16:
                MemoryMarshal.Cast<byte, short>(bytes)[i] = (short)value;
                break;
            case TensorElementType.UInt16:
                MemoryMarshal.Cast<byte, ushort>(bytes)[i] = (ushort)value;
                break;
            case TensorElementType.Int8:
                bytes[i] = (byte)(sbyte)value;
                break;
            default:
                bytes[i] = (byte)value;
                break;
        }
    }
}
