using System.Globalization;
using System.Text.RegularExpressions;

namespace Serverless.Core.Recipes;

/// <summary>
/// Numbers of a recipe: decimal, with a point (YAML 1.2, section 10.3). What YAML 1.1 or a culture reads as another number is
/// refused: <c>0,01</c>, <c>1_000</c>, <c>010</c>, <c>0x10</c>, <c>1:30</c>.
/// </summary>
internal static partial class RecipeNumber
{
    /// <summary>How a number is written, for errors.</summary>
    public const string About = "write digits, a point for decimals and nothing between thousands, as 0.01 or 1000";

    /// <summary>Reads a number; null when it is none, or could be read in two ways.</summary>
    public static double? Read(string text) =>
        Plain().IsMatch(text) && double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var d) && double.IsFinite(d)
            ? d
            : null;

    /// <summary>Reads a whole number; null when it is none, or could be read in two ways.</summary>
    public static int? ReadWhole(string text) =>
        Plain().IsMatch(text) && int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var i) ? i : null;

    [GeneratedRegex(@"^[-+]?(0|[1-9][0-9]*|(?=\.))(\.[0-9]+)?([eE][-+]?[0-9]+)?$", RegexOptions.CultureInvariant)]
    private static partial Regex Plain();
}
