using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>
/// Numbers of a codebook or scales as they are stored: FLOAT16 where they are many and it can hold them, else FLOAT. Codes are chosen for
/// what is stored.
/// </summary>
/// <param name="Values">As stored.</param>
/// <param name="Type">ONNX element type.</param>
internal sealed record CodebookValues(float[] Values, DataType Type)
{
    // Below FLOAT16's normal numbers, 2⁻¹⁴, it is off by up to 2⁻²⁵: nothing beside values of 2⁻⁸ and more.
    private const float SmallestLarge = 1f / 256,
        LargestHalf = 65504;

    /// <summary>Rounds numbers.</summary>
    /// <param name="values">Finite.</param>
    /// <param name="planned">How many the plan counts on: it chooses the type.</param>
    public static CodebookValues Of(float[] values, long planned)
    {
        var largest = MathF.Abs(TensorPrimitives.MaxMagnitude<float>(values));
        if (planned < CodebookLayout.HalvesFrom || largest is < SmallestLarge or > LargestHalf)
            return new CodebookValues(values, DataType.Float);
        return new CodebookValues(Array.ConvertAll(values, v => (float)(Half)v), DataType.Float16);
    }

    /// <summary>The bytes of the numbers.</summary>
    public byte[] ToBytes() =>
        Type == DataType.Float
            ? MemoryMarshal.AsBytes(Values.AsSpan()).ToArray()
            : MemoryMarshal.AsBytes(Array.ConvertAll(Values, v => (Half)v).AsSpan()).ToArray();
}
