namespace Serverless.Core.Techniques.Activations;

/// <summary>A scale and zero point of uint8 codes.</summary>
/// <param name="Scale">Step.</param>
/// <param name="Zero">The code of zero.</param>
public readonly record struct CodeScale(float Scale, byte Zero)
{
    /// <summary>Of a range that holds zero: 255 steps; 1 when the range is empty.</summary>
    public static CodeScale Of(float min, float max)
    {
        var scale = max / 255 - min / 255;
        return float.IsNormal(scale)
            ? new CodeScale(scale, (byte)Math.Clamp(Math.Round(-(double)min / scale, MidpointRounding.ToEven), 0, 255))
            : new CodeScale(1, 0);
    }
}
