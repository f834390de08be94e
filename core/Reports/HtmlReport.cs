using System.Globalization;
using System.Net;
using System.Text;
using ScottPlot;

namespace Serverless.Core.Reports;

/// <summary>The report as one HTML file that needs no network.</summary>
public static class HtmlReport
{
    private const int MostBars = 40;
    private static readonly Color Before = Color.FromHex("#9aa7b5"), After = Color.FromHex("#1f6feb"), Error = Color.FromHex("#c2410c");

    /// <summary>Renders a report and the recipe it came from.</summary>
    public static string Render(Report report, string recipe)
    {
        var html = new StringBuilder();
        html.Append("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>")
            .Append(Text(report.Model)).Append(" compressed</title><style>").Append(Style).Append("</style></head><body><main>");
        html.Append("<h1>").Append(Text(report.Model)).Append("</h1><p class=\"lead\"><b>").Append(Bytes(report.Size.Before)).Append(" → ").Append(Bytes(report.Size.After))
            .Append("</b> (").Append(Percent(report.Size.Ratio)).Append(" of the original)");
        if (report.Budget is { Met: false }) html.Append(" <span class=\"warn\">over its budget: the best attempt</span>");
        html.Append("</p><section class=\"tiles\">");
        Tile("Cosine of outputs", report.Fidelity.Cosine?.ToString("0.00000", CultureInfo.InvariantCulture) ?? "not compared");
        Tile("Relative error", report.Fidelity.RelativeError?.ToString("0.0000", CultureInfo.InvariantCulture) ?? "not compared");
        Tile("Top-1 agreement", report.Fidelity.Top1Agreement is { } top ? Percent(top) : "no classes");
        if (report.Accuracy is { } accuracy) Tile("Accuracy", $"{Percent(accuracy.Before)} → {Percent(accuracy.After)}");
        if (report.Latency is { } t)
            Tile("Latency", $"{Milliseconds(t.BeforeMs)} → {Milliseconds(t.AfterMs)} ms (×{Ratio(t.Ratio)}, {Ratio(t.RatioLow)} to {Ratio(t.RatioHigh)})");
        Tile("Weights", $"{report.Parameters.After.ToString("N0", CultureInfo.InvariantCulture)}, {Percent(1 - (double)report.Parameters.Nonzero / Math.Max(1, report.Parameters.After))} zero");
        Tile("Took", $"{report.ElapsedSeconds.ToString("0.0", CultureInfo.InvariantCulture)} s, {Bytes(report.PeakMemoryBytes)} memory");
        html.Append("</section><p>Compared on ").Append(report.Fidelity.Samples).Append(report.Fidelity.Source == "synthetic"
            ? " <b>synthetic</b> inputs, made up from the model's input types: they show that the model still computes the same, not how well it does its job."
            : " samples of the dropped data.").Append("</p>");
        if (report.Budget is { } b)
            html.Append("<p>Budget: ").Append(Text(b.Measure)).Append(" loss ").Append(b.Loss?.ToString("0.#####", CultureInfo.InvariantCulture) ?? "unknown")
                .Append(b.MaxAccuracyLoss is { } most ? $" of at most {most.ToString(CultureInfo.InvariantCulture)}" : "")
                .Append(b.MaxSizeRatio is { } ratio ? $", size ratio {report.Size.Ratio.ToString("0.###", CultureInfo.InvariantCulture)} of at most {ratio.ToString(CultureInfo.InvariantCulture)}" : "")
                .Append(", ").Append(report.Attempts).Append(report.Attempts == 1 ? " attempt" : " attempts").Append(".</p>");
        var done = report.Layers.Where(l => l.Note is null).OrderByDescending(l => l.BytesBefore).Take(MostBars).ToList();
        if (done.Count > 0)
        {
            html.Append("<h2>Bytes and error of each layer</h2>");
            if (report.Layers.Count(l => l.Note is null) > MostBars) html.Append("<p>The ").Append(MostBars).Append(" largest layers.</p>");
            html.Append("<figure>").Append(BytesChart(done)).Append("</figure><figure>").Append(ErrorChart(done)).Append("</figure>");
        }
        if (report.Calibration is { } calibration)
            html.Append("<p>Calibrated on ").Append(calibration.Samples).Append(' ').Append(Text(calibration.Source)).Append(calibration.HeldOut ? " samples, which are not among those compared on.</p>" : " samples, which are compared on too.</p>");
        if (report.Widths is { } widths)
            html.Append("<h2>Bit widths</h2><p>Predicted relative error ").Append(Percent(widths.Chosen.RelativeError)).Append(" at size ratio ")
                .Append(widths.Chosen.SizeRatio.ToString("0.000", CultureInfo.InvariantCulture)).Append("; no choice of that size is predicted below ").Append(Percent(widths.LowerBound))
                .Append(". Measured on the outputs for ").Append(widths.LayersMeasured).Append(" layers.")
                .Append(widths.Tried.Count == 0 ? "" : $" Best of {widths.Tried.Count} choices tried on the model, where its relative error was {Percent(widths.Tried[0].RelativeError)}.")
                .Append("</p><figure>").Append(WidthChart(widths)).Append("</figure>");
        html.Append("<h2>Layers</h2><div class=\"scroll\"><table><thead><tr><th>Weight<th>Used by<th>Shape<th>Steps<th class=\"n\">Bits<th class=\"n\">Group<th>Form<th class=\"n\">Before<th class=\"n\">After<th class=\"n\">Error<th>Note</tr></thead><tbody>");
        foreach (var l in report.Layers)
        {
            html.Append("<tr><td>").Append(Text(l.Name)).Append("<td>").Append(Text(l.Op)).Append("<td>").AppendJoin('×', l.Shape).Append("<td>").Append(Text(string.Join(", ", l.Steps)))
                .Append("<td class=\"n\">").Append(l.Bits).Append("<td class=\"n\">").Append(l.Group).Append("<td>").Append(Text(l.Form ?? "")).Append("<td class=\"n\">").Append(Bytes(l.BytesBefore))
                .Append("<td class=\"n\">").Append(Bytes(l.BytesAfter)).Append("<td class=\"n\">").Append(l.Note is null ? l.Error.ToString("0.0000", CultureInfo.InvariantCulture) : "").Append("<td>").Append(Text(l.Note ?? l.Fallback ?? "")).Append("</tr>");
        }
        html.Append("</tbody></table></div><h2>Recipe</h2><pre>").Append(Text(recipe)).Append("</pre><p class=\"small\">Run ").Append(Text(report.RunId)).Append("</p></main></body></html>\n");
        return html.ToString();

        void Tile(string name, string value) => html.Append("<div><span>").Append(Text(name)).Append("</span><b>").Append(Text(value)).Append("</b></div>");
    }

    private static string BytesChart(IReadOnlyList<ReportLayer> layers)
    {
        using var plot = new Plot();
        for (var i = 0; i < layers.Count; i++)
        {
            plot.Add.Bar(new Bar { Position = i - 0.2, Value = layers[i].BytesBefore / 1024.0, Size = 0.38, FillColor = Before, LineWidth = 0 });
            plot.Add.Bar(new Bar { Position = i + 0.2, Value = layers[i].BytesAfter / 1024.0, Size = 0.38, FillColor = After, LineWidth = 0 });
        }
        plot.Legend.ManualItems.Add(new LegendItem { LabelText = "before", FillColor = Before });
        plot.Legend.ManualItems.Add(new LegendItem { LabelText = "after", FillColor = After });
        plot.ShowLegend(Alignment.UpperRight);
        return Svg(plot, "KiB");
    }

    private static string ErrorChart(IReadOnlyList<ReportLayer> layers)
    {
        using var plot = new Plot();
        for (var i = 0; i < layers.Count; i++)
            plot.Add.Bar(new Bar { Position = i, Value = layers[i].Error, Size = 0.7, FillColor = Error, LineWidth = 0 });
        return Svg(plot, "relative error");
    }

    private static string WidthChart(ReportWidths widths)
    {
        using var plot = new Plot();
        plot.Add.Scatter(widths.Curve.Select(p => p.SizeRatio).ToArray(), widths.Curve.Select(p => p.RelativeError).ToArray(), Before).LegendText = "least predicted error";
        var chosen = plot.Add.Scatter(new[] { widths.Chosen.SizeRatio }, [widths.Chosen.RelativeError], Error);
        (chosen.MarkerSize, chosen.LegendText) = (12, "chosen");
        plot.ShowLegend(Alignment.UpperRight);
        return Svg(plot, "relative error", "size ratio");
    }

    private static string Svg(Plot plot, string y, string x = "layers, largest first")
    {
        plot.YLabel(y);
        plot.XLabel(x);
        plot.Axes.Margins(bottom: 0);
        plot.HideGrid();
        var svg = plot.GetSvgXml(960, 260);
        // An XML prologue has no place inside HTML.
        return svg[Math.Max(0, svg.IndexOf("<svg", StringComparison.Ordinal))..];
    }

    private static string Text(string text) => WebUtility.HtmlEncode(Printable.Lines(text));

    private static string Milliseconds(double value) => value.ToString("0.00##", CultureInfo.InvariantCulture);

    private static string Ratio(double value) => value.ToString("0.00", CultureInfo.InvariantCulture);

    private static string Percent(double value) => value.ToString("0.0 %", CultureInfo.InvariantCulture);

    private static string Bytes(long bytes) => bytes switch
    {
        < 10_000 => $"{bytes} B",
        < 10_000_000 => $"{(bytes / 1e3).ToString("0.#", CultureInfo.InvariantCulture)} kB",
        < 10_000_000_000 => $"{(bytes / 1e6).ToString("0.#", CultureInfo.InvariantCulture)} MB",
        _ => $"{(bytes / 1e9).ToString("0.#", CultureInfo.InvariantCulture)} GB",
    };

    private const string Style = """
        :root{font:15px/1.5 system-ui,sans-serif;color:#1b2430;background:#fff}main{max-width:1080px;margin:2rem auto;padding:0 1rem}
        h1{margin:0;font-size:1.6rem;overflow-wrap:anywhere}h2{margin:2rem 0 .5rem;font-size:1.15rem}.lead{font-size:1.15rem;margin:.3rem 0 1.2rem}
        .warn{color:#9a3412;font-weight:600}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:.6rem}
        .tiles div{border:1px solid #d5dce4;border-radius:6px;padding:.55rem .75rem}.tiles span{display:block;color:#566270;font-size:.85rem}.tiles b{font-variant-numeric:tabular-nums}
        figure{margin:.5rem 0}figure svg{max-width:100%;height:auto}.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.85rem}
        th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #e6ebf0;white-space:nowrap}td:first-child{max-width:22rem;overflow:hidden;text-overflow:ellipsis}
        .n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f4f6f9;padding:.8rem;border-radius:6px;overflow-x:auto}.small{color:#566270;font-size:.85rem}
        """;
}
