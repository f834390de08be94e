using System.Text;

namespace Serverless.Core.Reports;

/// <summary>The layers in the HTML report: charts of the largest, and a table of all.</summary>
internal static class HtmlLayers
{
    private const int MostBars = 40;

    // Weights that are zero by chance are no sparsity.
    private const double LeastSparsity = 0.01;
    private const string Head =
        "<h2>Layers</h2><div class=\"scroll\"><table><thead><tr><th>Weight<th>Used by<th>Shape<th>Steps"
        + "<th class=\"n\">Bits<th class=\"n\">Group<th class=\"n\">Zero<th>Form"
        + "<th class=\"n\">Before<th class=\"n\">After<th class=\"n\">Error<th>Note</tr></thead><tbody>";

    public static void AppendCharts(StringBuilder html, IReadOnlyList<ReportLayer> layers)
    {
        var done = layers.Where(l => l.Note is null).OrderByDescending(l => l.BytesBefore).ToList();
        if (done.Count == 0)
            return;
        html.Append("<h2>Bytes and error of each layer</h2>");
        if (done.Count > MostBars)
            html.Append("<p>The ").Append(MostBars).Append(" largest layers.</p>");
        List<ReportLayer> largest = [.. done.Take(MostBars)];
        List<string> charts = [ReportCharts.Bytes(largest), ReportCharts.Errors(largest)];
        if (largest.Any(l => l.Sparsity >= LeastSparsity))
            charts.Add(ReportCharts.Sparsities(largest));
        foreach (var chart in charts)
            html.Append("<figure>").Append(chart).Append("</figure>");
    }

    public static void AppendTable(StringBuilder html, IReadOnlyList<ReportLayer> layers)
    {
        html.Append(Head);
        foreach (var layer in layers)
            AppendRow(html, layer);
        html.Append("</tbody></table></div>");
    }

    private static void AppendRow(StringBuilder html, ReportLayer l) =>
        html.Append("<tr><td>")
            .Append(HtmlText.Escape(l.Name))
            .Append("<td>")
            .Append(HtmlText.Escape(l.Op))
            .Append("<td>")
            .AppendJoin('×', l.Shape)
            .Append("<td>")
            .Append(HtmlText.Escape(string.Join(", ", l.Steps)))
            .Append("<td class=\"n\">")
            .Append(l.Bits)
            .Append("<td class=\"n\">")
            .Append(l.Group)
            .Append("<td class=\"n\">")
            .Append(l.Sparsity >= LeastSparsity ? ReportText.Percent(l.Sparsity) : "")
            .Append("<td>")
            .Append(HtmlText.Escape(l.Form ?? ""))
            .Append("<td class=\"n\">")
            .Append(ByteCount.Text(l.BytesBefore))
            .Append("<td class=\"n\">")
            .Append(ByteCount.Text(l.BytesAfter))
            .Append("<td class=\"n\">")
            .Append(l.Note is null ? ReportText.Error(l.Error) : "")
            .Append("<td>")
            .Append(
                HtmlText.Escape(
                    l.Note
                        ?? string.Join(
                            "; ",
                            [.. l.Fallback is { } f ? [f] : Array.Empty<string>(), .. l.NotApplied.Select(n => n.ToString())]
                        )
                )
            )
            .Append("</tr>");
}
