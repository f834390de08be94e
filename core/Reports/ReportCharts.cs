namespace Serverless.Core.Reports;

/// <summary>
/// The charts of the HTML report. Written here and not by a library, whose loading and compiling took a tenth of a small model's run.
/// </summary>
internal static class ReportCharts
{
    private const int Width = 960,
        Height = 220,
        Frame = 90,
        Below = 36;
    private const double BarShare = 0.38;
    private const string Before = "#9aa7b5",
        After = "#1f6feb",
        Error = "#c2410c";

    /// <summary>Bytes of layers before and after.</summary>
    public static string Bytes(IReadOnlyList<ReportLayer> layers)
    {
        var largest = layers.Max(l => Math.Max(l.BytesBefore, l.BytesAfter));
        var unit = ByteCount.UnitOf(largest);
        var (chart, names) = Of(layers, unit.Name, largest / unit.Bytes);
        var cell = 1.0 / layers.Count;
        for (var i = 0; i < layers.Count; i++)
        {
            chart.Bar((i + 0.5 - BarShare) * cell, BarShare * cell, layers[i].BytesBefore / unit.Bytes, Before);
            chart.Bar((i + 0.5) * cell, BarShare * cell, layers[i].BytesAfter / unit.Bytes, After);
        }
        chart.Legend(("before", Before), ("after", After));
        names.Write(chart);
        return chart.ToString();
    }

    /// <summary>Relative errors of layers.</summary>
    public static string Errors(IReadOnlyList<ReportLayer> layers) => Bars(layers, "relative error", l => l.Error, Error);

    /// <summary>Shares of the layers' weights that are zero.</summary>
    public static string Sparsities(IReadOnlyList<ReportLayer> layers) => Bars(layers, "sparsity", l => l.Sparsity, After);

    private static string Bars(IReadOnlyList<ReportLayer> layers, string label, Func<ReportLayer, double> of, string colour)
    {
        var (chart, names) = Of(layers, label, layers.Max(of));
        var cell = 1.0 / layers.Count;
        for (var i = 0; i < layers.Count; i++)
            chart.Bar((i + 0.5 - BarShare) * cell, 2 * BarShare * cell, of(layers[i]), colour);
        names.Write(chart);
        return chart.ToString();
    }

    /// <summary>The least error predicted at each size, and the point chosen.</summary>
    public static string Widths(ReportWidths widths)
    {
        List<ReportPoint> all = [.. widths.Curve, widths.Chosen];
        var ticks = AxisTicks.From(all.Min(p => p.SizeRatio), all.Max(p => p.SizeRatio));
        var chart = new SvgChart(Width, Height + Below, "relative error", all.Max(p => p.RelativeError), Below);
        chart.Curve(widths.Curve.OrderBy(p => p.SizeRatio).Select(p => (Share(p.SizeRatio), p.RelativeError)), Before);
        foreach (var point in widths.Curve)
            chart.Point(Share(point.SizeRatio), point.RelativeError, 2.5, Before);
        chart.Point(Share(widths.Chosen.SizeRatio), widths.Chosen.RelativeError, 6, Error);
        chart.Below(ticks, Share, "size ratio");
        chart.Legend(("least predicted error", Before), ("chosen", Error));
        return chart.ToString();

        double Share(double ratio) => (ratio - ticks[0]) / (ticks[^1] - ticks[0]);
    }

    /// <summary>A value that follows from another.</summary>
    /// <param name="x">What lies below.</param>
    /// <param name="y">What lies to the left.</param>
    /// <param name="points">One at least.</param>
    public static string Curve(string x, string y, IReadOnlyList<(double X, double Y)> points)
    {
        var ticks = AxisTicks.From(Math.Min(0, points.Min(p => p.X)), points.Max(p => p.X));
        var chart = new SvgChart(Width, Height + Below, y, points.Max(p => p.Y), Below);
        chart.Curve(points.Select(p => (Share(p.X), p.Y)), After);
        foreach (var point in points)
            chart.Point(Share(point.X), point.Y, 4, After);
        chart.Below(ticks, Share, x);
        return chart.ToString();

        double Share(double value) => (value - ticks[0]) / (ticks[^1] - ticks[0]);
    }

    private static (SvgChart Chart, LayerAxis Names) Of(IReadOnlyList<ReportLayer> layers, string label, double largest)
    {
        var names = new LayerAxis([.. layers.Select(l => l.Name)], Width - Frame);
        return (new SvgChart(Width, Height + names.Room, label, largest, names.Room, names.Beside), names);
    }
}
