using System.Text;

namespace Serverless.Core.Reports;

/// <summary>The report as one HTML file that needs no network.</summary>
public static class HtmlReport
{
    /// <summary>Renders a report and the recipe it came from.</summary>
    public static string Render(Report report, string recipe)
    {
        var model = HtmlText.Escape(report.Model);
        var html = new StringBuilder();
        html.Append("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">")
            .Append("<meta name=\"viewport\" content=\"width=device-width\"><title>")
            .Append(model)
            .Append(" compressed</title><style>")
            .Append(HtmlStyle.Css)
            .Append("</style></head><body><main><h1>")
            .Append(model)
            .Append("</h1>");
        HtmlFigures.Append(html, report);
        HtmlOutputs.Append(html, report.Fidelity);
        HtmlLayers.AppendCharts(html, report.Layers);
        HtmlMethods.Append(html, report);
        HtmlLayers.AppendTable(html, report.Layers);
        html.Append("<h2>Recipe</h2><pre>")
            .Append(HtmlText.Escape(recipe))
            .Append("</pre><p class=\"small\">Run ")
            .Append(HtmlText.Escape(report.RunId))
            .Append("</p></main></body></html>\n");
        return html.ToString();
    }
}
