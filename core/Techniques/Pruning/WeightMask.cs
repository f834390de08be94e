using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Which weights of a layer become zero, a bit each.</summary>
/// <param name="shape">The layer's view.</param>
internal sealed class WeightMask(LayerShape shape)
{
    private readonly ulong[] bits = new ulong[checked((int)((shape.Elements + 63) / 64))];

    /// <summary>Bytes of a mask.</summary>
    public static long Bytes(LayerShape shape) => shape.Elements / 8;

    /// <summary>Marks a weight.</summary>
    public void Prune(long row, long column)
    {
        var at = WeightTile.At(shape, row, column);
        bits[at / 64] |= 1UL << (int)(at % 64);
    }

    /// <summary>Sets marked weights to zero.</summary>
    /// <param name="first">Index of the first value in the stored weight.</param>
    /// <param name="values">Consecutive values.</param>
    public void Apply(long first, Span<float> values)
    {
        for (var i = 0; i < values.Length; i++)
            if ((bits[(first + i) / 64] >> (int)((first + i) % 64) & 1) != 0)
                values[i] = 0;
    }
}
