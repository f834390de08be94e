namespace Serverless.Core.Techniques.Quantization;

/// <summary>A format of a layer.</summary>
/// <param name="Bits">Bits a weight.</param>
/// <param name="Group">Weights that share a scale; null for the method's own.</param>
/// <param name="Symmetric">No zero points.</param>
internal readonly record struct Width(int Bits, int? Group, bool Symmetric);

/// <summary>The formats that a layer may get when widths are mixed.</summary>
internal static class WidthChoices
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

    /// <summary>The formats as treatments, narrowest first; of one width the method's own group first.</summary>
    /// <param name="ternary">Whether ternary is among them, for methods that compare by the weights' own error.</param>
    /// <param name="symmetric">Whether those without zero points are.</param>
    /// <param name="of">The method in a format.</param>
    public static IReadOnlyList<Setting> Of(bool ternary, bool symmetric, Func<Width, Setting> of)
    {
        IEnumerable<Width> widths = symmetric
            ? Plain.Concat(WithZeroPoints)
            : Plain.Select(w => w with { Symmetric = false }).Concat(WithZeroPoints[..2]);
        return
        [
            .. ternary ? [new Setting(new Ternary(), new TernaryOptions { Protect = 0 })] : Array.Empty<Setting>(),
            .. widths.OrderBy(w => w.Bits).Select(of),
        ];
    }
}
