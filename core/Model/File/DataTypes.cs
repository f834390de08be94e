using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Sizes and names of ONNX element types (onnx.proto, TensorProto.DataType).</summary>
public static class DataTypes
{
    /// <summary>Bits of one element; 0 for strings, undefined and types this build does not know.</summary>
    public static int Bits(int dataType) =>
        (DataType)dataType switch
        {
            DataType.Uint2 or DataType.Int2 => 2,
            DataType.Uint4 or DataType.Int4 or DataType.Float4E2M1 => 4,
            DataType.Uint8
            or DataType.Int8
            or DataType.Bool
            or DataType.Float8E4M3Fn
            or DataType.Float8E4M3Fnuz
            or DataType.Float8E5M2
            or DataType.Float8E5M2Fnuz
            or DataType.Float8E8M0 => 8,
            DataType.Uint16 or DataType.Int16 or DataType.Float16 or DataType.Bfloat16 => 16,
            DataType.Float or DataType.Int32 or DataType.Uint32 => 32,
            DataType.Double or DataType.Int64 or DataType.Uint64 or DataType.Complex64 => 64,
            DataType.Complex128 => 128,
            _ => 0,
        };

    /// <summary>Whether weights of this type can be compressed: float, double, float16, bfloat16.</summary>
    public static bool IsWeightType(int dataType) =>
        (DataType)dataType is DataType.Float or DataType.Double or DataType.Float16 or DataType.Bfloat16;

    /// <summary>The ONNX spelling (<c>FLOAT16</c>), or the number when unknown.</summary>
    public static string Name(int dataType) =>
        Enum.IsDefined((DataType)dataType)
            ? ((DataType)dataType).ToString().ToUpperInvariant()
            : dataType.ToString(System.Globalization.CultureInfo.InvariantCulture);
}
