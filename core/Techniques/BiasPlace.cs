using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques;

/// <summary>Where a bias is in an assembled graph.</summary>
/// <param name="Values">Initializer of its floats, or of its int32 codes.</param>
/// <param name="Scales">Initializer of the codes' scales, one a channel; null for floats.</param>
public sealed record BiasPlace(string Values, string? Scales)
{
    /// <summary>Adds to the bias.</summary>
    /// <param name="initializers">The graph's initializers by name, their bytes inline.</param>
    /// <param name="by">What to add to each channel.</param>
    public void Shift(IReadOnlyDictionary<string, TensorProto> initializers, ReadOnlySpan<float> by)
    {
        var tensor = initializers[Values];
        var bytes = tensor.RawData.ToByteArray();
        if (Scales is { } name)
        {
            var codes = MemoryMarshal.Cast<byte, int>(bytes.AsSpan());
            var scales = MemoryMarshal.Cast<byte, float>(initializers[name].RawData.Span);
            for (var c = 0; c < codes.Length; c++)
                codes[c] = (int)
                    Math.Clamp(codes[c] + Math.Round((double)by[c] / scales[c], MidpointRounding.ToEven), -int.MaxValue, int.MaxValue);
        }
        else
        {
            var floats = MemoryMarshal.Cast<byte, float>(bytes.AsSpan());
            for (var c = 0; c < floats.Length; c++)
                floats[c] += by[c];
        }
        tensor.RawData = ByteString.CopyFrom(bytes);
    }
}
