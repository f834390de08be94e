namespace Serverless.Core.Techniques.Quantization;

/// <summary>A format of a layer.</summary>
/// <param name="Bits">Bits a weight.</param>
/// <param name="Group">Weights that share a scale; null for the method's own.</param>
/// <param name="Symmetric">No zero points.</param>
internal readonly record struct Width(int Bits, int? Group, bool Symmetric);

/// <summary>The formats that a layer may get when widths are mixed.</summary>
internal static class WidthLadder
{
    // Zero points pay where codes are few; at 2 bits codes without one waste a quarter of them.
    private static readonly Width[] WithZeroPoints = [new(2, null, false), new(2, 16, false), new(3, null, false), new(4, null, false)];
    private static readonly Width[] Plain =
    [
        new(3, null, true),
        new(3, 16, true),
        new(3, 64, true),
        new(3, 128, true),
        new(4, null, true),
        new(4, 16, true),
        new(4, 64, true),
        new(4, 128, true),
        new(5, null, true),
        new(6, null, true),
        new(8, null, true),
    ];

    private const int ReferenceBits = 4;

    /// <summary>The formats, narrowest first; of one width the method's own group first.</summary>
    /// <param name="ternary">Whether ternary is among them, for methods that compare by the weights' own error.</param>
    /// <param name="symmetric">Whether those without zero points are.</param>
    /// <param name="of">The method in a format.</param>
    public static Ladder Of(bool ternary, bool symmetric, Func<Width, Setting> of)
    {
        IEnumerable<Width> widths = symmetric
            ? Plain.Concat(WithZeroPoints)
            : Plain.Select(w => w with { Symmetric = false }).Concat(WithZeroPoints[..2]);
        var rungs = widths.OrderBy(w => w.Bits).Select(w => new Rung(of(w), w.Bits));
        var narrowest = new Rung(new Setting(new Ternary(), new TernaryOptions { Protect = 0 }), 2);
        return Ladder.Open(ternary ? rungs.Prepend(narrowest) : rungs, ReferenceBits);
    }

    /// <summary>The widths of a method from one on: twice the bits up to 8, then 16 bits rounded to nearest.</summary>
    /// <param name="bits">The first.</param>
    /// <param name="of">The method at a width; null for rounding to nearest.</param>
    public static Ladder From(int bits, Func<int, Setting>? of = null)
    {
        of ??= b => RoundToNearest.At(b);
        var rungs = new List<Setting> { of(bits) };
        while (bits < 8)
            rungs.Add(of(bits = bits <= 4 ? bits * 2 : 8));
        return Ladder.From(rungs.Append(RoundToNearest.At(16)));
    }
}
