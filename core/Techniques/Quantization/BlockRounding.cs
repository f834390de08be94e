namespace Serverless.Core.Techniques.Quantization;

/// <summary>What zero points a rounding keeps for each block.</summary>
internal enum ZeroPoints
{
    /// <summary>None: codes count from the middle of their range, or from 0.</summary>
    None,

    /// <summary>A code.</summary>
    Codes,

    /// <summary>A FLOAT16 number.</summary>
    Halves,
}

/// <summary>Figures of one rounded block.</summary>
/// <param name="Zero">Its zero point.</param>
/// <param name="SquaredError">‖w − ŵ‖².</param>
/// <param name="Nonzero">Weights that are not zero after decoding.</param>
internal readonly record struct RoundedBlock(float Zero, double SquaredError, long Nonzero);

/// <summary>Turns the weights of a block, which share scales, into codes.</summary>
internal abstract class BlockRounding
{
    /// <summary>Bits a code.</summary>
    public abstract int Bits { get; }

    /// <summary>Terms whose sum is the weight.</summary>
    public virtual int Terms => 1;

    /// <summary>Whether codes count from the middle of their range.</summary>
    public abstract bool Symmetric { get; }

    /// <summary>The zero points it keeps.</summary>
    public virtual ZeroPoints Zeros => ZeroPoints.None;

    /// <summary>Whether scales (and float zero points) are rounded to FLOAT16.</summary>
    public abstract bool Half { get; }

    /// <summary>Rounds a block.</summary>
    /// <param name="weights">The block, all finite.</param>
    /// <param name="codes">Receives the codes, term after term; as many bytes a term as <c>codes.Length / Terms</c>, the rest of each
    /// padded with zero points. Two bytes a code at 16 bits.</param>
    /// <param name="scales">Receives a scale a term.</param>
    /// <exception cref="LayerRefusedException">The values cannot be rounded so.</exception>
    /// <exception cref="HalfRangeException">A scale does not fit FLOAT16.</exception>
    public abstract RoundedBlock Round(ReadOnlySpan<float> weights, Span<byte> codes, Span<float> scales);
}
