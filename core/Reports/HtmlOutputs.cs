using System.Globalization;
using System.Text;

namespace Serverless.Core.Reports;

/// <summary>The model's outputs in the HTML report, where the figures of the worst one do not say it all.</summary>
internal static class HtmlOutputs
{
    private const string Head =
        "<h2>Outputs</h2><div class=\"scroll\"><table><thead><tr><th>Output<th>Type<th class=\"n\">Cosine"
        + "<th class=\"n\">Relative error<th class=\"n\">Elements compared<th class=\"n\">Samples of another shape"
        + "<th class=\"n\">Elements before<th class=\"n\">Elements after</tr></thead><tbody>";

    public static void Append(StringBuilder html, ReportFidelity fidelity)
    {
        if (fidelity.Outputs.Count < 2 && fidelity.Outputs.All(o => o.ChangedShapes == 0))
            return;
        html.Append(Head);
        foreach (var o in fidelity.Outputs)
        {
            html.Append("<tr><td>").Append(HtmlText.Escape(o.Name)).Append("<td>").Append(HtmlText.Escape(o.Type));
            foreach (
                var figure in new[]
                {
                    o.Cosine is { } c ? ReportText.Cosine(c) : "",
                    o.RelativeError is { } e ? ReportText.Error(e) : "",
                    Count(o.Compared),
                    Count(o.ChangedShapes),
                    Count(o.ElementsBefore),
                    Count(o.ElementsAfter),
                }
            )
                html.Append("<td class=\"n\">").Append(figure);
            html.Append("</tr>");
        }
        html.Append("</tbody></table></div>");
    }

    private static string Count(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
