using ScottPlot;

namespace Serverless.Core.Reports;

/// <summary>The charts of the HTML report, as SVG.</summary>
internal static class ReportCharts
{
    private const int Width = 960,
        Height = 220,
        Frame = 90;
    private static readonly Color Before = Color.FromHex("#9aa7b5"),
        After = Color.FromHex("#1f6feb"),
        Error = Color.FromHex("#c2410c");

    /// <summary>Bytes of layers before and after.</summary>
    public static string Bytes(IReadOnlyList<ReportLayer> layers)
    {
        using var plot = new Plot();
        var unit = ByteCount.UnitOf(layers.Max(l => Math.Max(l.BytesBefore, l.BytesAfter)));
        for (var i = 0; i < layers.Count; i++)
        {
            plot.Add.Bar(Bar(i - 0.2, layers[i].BytesBefore / unit.Bytes, 0.38, Before));
            plot.Add.Bar(Bar(i + 0.2, layers[i].BytesAfter / unit.Bytes, 0.38, After));
        }
        plot.Legend.ManualItems.Add(new LegendItem { LabelText = "before", FillColor = Before });
        plot.Legend.ManualItems.Add(new LegendItem { LabelText = "after", FillColor = After });
        plot.ShowLegend(Alignment.UpperRight);
        return Bars(plot, layers, unit.Name);
    }

    /// <summary>Relative errors of layers.</summary>
    public static string Errors(IReadOnlyList<ReportLayer> layers)
    {
        using var plot = new Plot();
        for (var i = 0; i < layers.Count; i++)
            plot.Add.Bar(Bar(i, layers[i].Error, 0.7, Error));
        return Bars(plot, layers, "relative error");
    }

    /// <summary>The least error predicted at each size, and the point chosen.</summary>
    public static string Widths(ReportWidths widths)
    {
        using var plot = new Plot();
        var (ratios, errors) = (widths.Curve.Select(p => p.SizeRatio), widths.Curve.Select(p => p.RelativeError));
        var curve = plot.Add.Scatter(ratios.ToArray(), errors.ToArray(), Before);
        curve.LegendText = "least predicted error";
        var chosen = plot.Add.Scatter(new[] { widths.Chosen.SizeRatio }, [widths.Chosen.RelativeError], Error);
        (chosen.MarkerSize, chosen.LegendText) = (12, "chosen");
        plot.ShowLegend(Alignment.UpperRight);
        plot.XLabel("size ratio");
        return Svg(plot, "relative error", Height + 40);
    }

    private static Bar Bar(double position, double value, double size, Color color) =>
        new()
        {
            Position = position,
            Value = value,
            Size = size,
            FillColor = color,
            LineWidth = 0,
        };

    private static string Bars(Plot plot, IReadOnlyList<ReportLayer> layers, string y)
    {
        var names = new LayerAxis([.. layers.Select(l => l.Name)], Width - Frame);
        names.MakeRoom(plot);
        return names.Write(plot, Svg(plot, y, Height + names.Room));
    }

    private static string Svg(Plot plot, string y, int height)
    {
        plot.YLabel(y);
        plot.Axes.Margins(bottom: 0);
        plot.HideGrid();
        var svg = plot.GetSvgXml(Width, height);
        // An XML prologue has no place inside HTML.
        return svg[Math.Max(0, svg.IndexOf("<svg", StringComparison.Ordinal))..];
    }
}
