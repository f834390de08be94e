namespace Serverless.Core.Reports;

/// <summary>
/// Names of layers below their bars, level where they have the room and steep where not.
/// </summary>
internal sealed class LayerAxis
{
    private const int Longest = 26,
        FontSize = 11,
        Gap = 15,
        Angle = 60;
    private const double CellWidth = 6.2;

    // From here on characters may take two cells.
    private const char Wide = '\u1100';
    private readonly IReadOnlyList<string> names;
    private readonly double widest;
    private readonly bool level;

    /// <summary>An axis.</summary>
    /// <param name="names">The names, left to right, at 0, 1, 2, ….</param>
    /// <param name="width">Width that there is for all of them.</param>
    public LayerAxis(IReadOnlyList<string> names, int width)
    {
        this.names = names;
        widest = CellWidth * names.Max(n => Short(n).Sum(Cells));
        level = widest * names.Count < width;
    }

    /// <summary>The height that the names take.</summary>
    public int Room => Gap + FontSize + (level ? 0 : (int)(widest * Math.Sin(Angle * Math.PI / 180)));

    /// <summary>The width that they take to the left: a steep name begins to the left of its bar.</summary>
    public double Beside => level ? 0 : widest * Math.Cos(Angle * Math.PI / 180);

    /// <summary>Writes the names below a chart's frame.</summary>
    public void Write(SvgChart chart)
    {
        var (turn, anchor) = level ? ("", "middle") : ($" rotate(-{Angle})", "end");
        var look = SvgChart.Look(anchor);
        var top = chart.Bottom + Gap;
        for (var i = 0; i < names.Count; i++)
        {
            var x = chart.X((i + 0.5) / names.Count);
            var name = $"<title>{Escape(names[i])}</title>{Escape(Short(names[i]))}";
            chart.Append($"<text class=\"layer\" transform=\"translate({x:0.#} {top:0.#}){turn}\" {look}>{name}</text>");
        }
    }

    private static int Cells(char c) => c >= Wide ? 2 : 1;

    private static string Short(string name)
    {
        var line = Printable.Line(name);
        return Printable.Shorten(line, line.Any(c => Cells(c) > 1) ? Longest / 2 : Longest);
    }

    private static string Escape(string text) => HtmlText.Escape(Printable.Line(text));
}
