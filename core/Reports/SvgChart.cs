using System.Globalization;
using System.Text;

namespace Serverless.Core.Reports;

/// <summary>A chart as SVG: a frame whose left axis begins at 0, a legend above it, and marks. Sizes are in pixels.</summary>
internal sealed class SvgChart
{
    private const int FontSize = 11,
        Above = 26,
        Right = 14,
        LeastLeft = 66,
        TickLength = 4,
        Swatch = 10,
        CharacterWidth = 7;
    private const string Axis = "#566270",
        Font = "font-family=\"system-ui, sans-serif\"";
    private readonly StringBuilder svg = new();
    private readonly int width,
        height;
    private readonly double left,
        bottom,
        most;

    /// <summary>An empty chart.</summary>
    /// <param name="width">Its width.</param>
    /// <param name="height">Its height.</param>
    /// <param name="label">What the left axis shows.</param>
    /// <param name="largest">The largest value on it.</param>
    /// <param name="below">Height of what stands below the frame.</param>
    /// <param name="beside">The least width of what stands to its left.</param>
    public SvgChart(int width, int height, string label, double largest, double below, double beside = 0)
    {
        (this.width, this.height, left, bottom) = (width, height, Math.Max(LeastLeft, beside), height - below);
        var ticks = AxisTicks.From(0, largest);
        most = ticks[^1];
        foreach (var tick in ticks)
        {
            Line(left - TickLength, Y(tick), left, Y(tick), Axis);
            Text(left - TickLength - 3, Y(tick) + 4, "end", AxisTicks.Text(tick, ticks));
        }
        Line(left, Y(0), left, Y(most), Axis);
        Line(left, Y(0), width - Right, Y(0), Axis);
        var middle = (Y(0) + Y(most)) / 2;
        Append($"<text transform=\"translate({FontSize + 2} {middle:0.#}) rotate(-90)\" {Look("middle")}>{HtmlText.Escape(label)}</text>");
    }

    /// <summary>The height at which the frame ends.</summary>
    public double Bottom => bottom;

    /// <summary>The place of a share of the frame's width.</summary>
    public double X(double share) => left + share * (width - Right - left);

    /// <summary>The place of a value of the left axis.</summary>
    public double Y(double value) => bottom - value / most * (bottom - Above);

    /// <summary>A bar from 0.</summary>
    /// <param name="from">Where it begins, as a share of the width.</param>
    /// <param name="share">Its width as a share of the frame's.</param>
    /// <param name="value">Its value.</param>
    /// <param name="color">Its colour.</param>
    public void Bar(double from, double share, double value, string color) =>
        Rectangle(X(from), Y(value), X(share) - X(0), Y(0) - Y(value), color);

    /// <summary>Points joined by lines.</summary>
    public void Curve(IEnumerable<(double Share, double Value)> points, string color)
    {
        var line = string.Join(' ', points.Select(p => Invariant($"{X(p.Share):0.##},{Y(p.Value):0.##}")));
        Append($"<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{line}\"/>");
    }

    /// <summary>A point.</summary>
    public void Point(double share, double value, double radius, string color) =>
        Append($"<circle cx=\"{X(share):0.##}\" cy=\"{Y(value):0.##}\" r=\"{radius}\" fill=\"{color}\"/>");

    /// <summary>Values below the frame, and what they are.</summary>
    /// <param name="ticks">The values.</param>
    /// <param name="share">The place of a value, as a share of the width.</param>
    /// <param name="label">What they are.</param>
    public void Below(IReadOnlyList<double> ticks, Func<double, double> share, string label)
    {
        foreach (var tick in ticks)
        {
            Line(X(share(tick)), bottom, X(share(tick)), bottom + TickLength, Axis);
            Text(X(share(tick)), bottom + TickLength + FontSize, "middle", AxisTicks.Text(tick, ticks));
        }
        Text(X(0.5), bottom + TickLength + 2.5 * FontSize, "middle", label);
    }

    /// <summary>The colours' meanings, above the frame to the right.</summary>
    public void Legend(params ReadOnlySpan<(string Name, string Color)> entries)
    {
        var x = (double)(width - Right);
        for (var i = entries.Length - 1; i >= 0; i--)
        {
            var (name, color) = entries[i];
            x -= name.Length * CharacterWidth;
            Text(x, 14, "start", name);
            x -= Swatch + 4;
            Rectangle(x, 5, Swatch, Swatch, color);
            x -= Swatch;
        }
    }

    /// <summary>An element of SVG, written as it is.</summary>
    public void Append(FormattableString element) => svg.Append(Invariant(element)).Append('\n');

    /// <summary>The attributes of a text.</summary>
    public static string Look(string anchor) => $"{Font} font-size=\"{FontSize}\" text-anchor=\"{anchor}\"";

    /// <inheritdoc/>
    public override string ToString() =>
        Invariant($"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n")
        + svg
        + "</svg>";

    private void Rectangle(double x, double y, double across, double down, string color) =>
        Append($"<rect x=\"{x:0.##}\" y=\"{y:0.##}\" width=\"{across:0.##}\" height=\"{down:0.##}\" fill=\"{color}\"/>");

    private void Line(double x1, double y1, double x2, double y2, string color) =>
        Append($"<line x1=\"{x1:0.##}\" y1=\"{y1:0.##}\" x2=\"{x2:0.##}\" y2=\"{y2:0.##}\" stroke=\"{color}\"/>");

    private void Text(double x, double y, string anchor, string text) =>
        Append($"<text x=\"{x:0.##}\" y=\"{y:0.##}\" fill=\"{Axis}\" {Look(anchor)}>{HtmlText.Escape(text)}</text>");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
