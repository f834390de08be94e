using System.IO.Hashing;
using System.Text;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace Serverless.Core.Execution;

/// <summary>
/// What a model put out, as a tensor that can be compared: a sequence as its elements one behind the other, a map as its
/// values (ZipMap's probabilities), strings as hashes.
/// </summary>
internal static class OutputValue
{
    private static readonly TensorValue None = new(TensorElementType.DataTypeMax, [0], []);

    /// <summary>Copies a value; of a type that is not known here, nothing.</summary>
    public static TensorValue Of(OrtValue value)
    {
        switch (value.OnnxType)
        {
            case OnnxValueType.ONNX_TYPE_TENSOR:
                return Tensor(value);
            case OnnxValueType.ONNX_TYPE_SEQUENCE:
                return Joined([.. Enumerable.Range(0, value.GetValueCount()).Select(i => Part(value, i))]);
            case OnnxValueType.ONNX_TYPE_MAP:
                return Part(value, 1);
            default:
                return None;
        }
    }

    private static TensorValue Part(OrtValue value, int index)
    {
        using var part = value.GetValue(index, OrtAllocator.DefaultInstance);
        return Of(part);
    }

    private static TensorValue Joined(IReadOnlyList<TensorValue> parts)
    {
        if (parts.Count == 0 || parts.Any(p => p.Type != parts[0].Type))
            return None;
        return new TensorValue(parts[0].Type, [parts.Sum(p => p.Elements)], [.. parts.SelectMany(p => p.Bytes)]);
    }

    private static TensorValue Tensor(OrtValue value)
    {
        var info = value.GetTensorTypeAndShape();
        if (info.ElementDataType == TensorElementType.String)
        {
            var hashes = value.GetStringTensorAsArray().SelectMany(s => XxHash64.Hash(Encoding.UTF8.GetBytes(s ?? "")));
            return new TensorValue(TensorElementType.String, info.Shape, [.. hashes]);
        }
        return ElementTypes.Size(info.ElementDataType) == 0
            ? None
            : new TensorValue(info.ElementDataType, info.Shape, value.GetTensorMutableRawData().ToArray());
    }
}
