namespace Serverless.Core.Techniques.Quantization;

/// <summary>The widths that a layer may get when they are mixed.</summary>
internal static class WidthChoices
{
    /// <summary>Bits, and the group where it is not the method's own; smallest first.</summary>
    public static IReadOnlyList<(int Bits, int? Group)> All { get; } = [(2, null), (2, 16), (3, null), (3, 16), (4, null), (4, 16), (5, null), (6, null), (8, null)];
}
