using System.Globalization;
using System.Text;

namespace Serverless.Core.Reports;

/// <summary>Folded constants, calibration and bit allocation in the HTML report.</summary>
internal static class HtmlMethods
{
    public static void Append(StringBuilder html, Report report)
    {
        if (report.Folded.Count > 0)
        {
            html.Append(
                    "<h2>Constants computed once</h2><table><thead><tr><th>Constant<th>Operators<th>Type<th class=\"n\">Before<th class=\"n\">After"
                )
                .Append("</tr></thead><tbody>");
            foreach (var f in report.Folded)
            {
                html.Append("<tr><td>")
                    .Append(HtmlText.Escape(f.Name))
                    .Append("<td>")
                    .Append(HtmlText.Escape(string.Join(", ", f.Operators.Distinct())))
                    .Append("<td>")
                    .Append(f.Type)
                    .Append("<td class=\"n\">")
                    .Append(ByteCount.Text(f.BytesBefore))
                    .Append("<td class=\"n\">")
                    .Append(ByteCount.Text(f.BytesAfter))
                    .Append("</tr>");
            }
            html.Append("</tbody></table>");
        }
        if (report.Calibration is { } calibration)
        {
            html.Append("<p>Calibrated on ")
                .Append(ReportText.Count(calibration.Samples, $"{HtmlText.Escape(calibration.Source)} sample"))
                .Append(calibration.HeldOut ? ", none of which is compared on.</p>" : "; comparison sees them too.</p>");
        }
        if (report.Widths is { } widths)
        {
            html.Append("<h2>Bit widths</h2><p>")
                .Append(Choice(widths))
                .Append("</p><figure>")
                .Append(ReportCharts.Widths(widths))
                .Append("</figure>");
        }
    }

    private static string Choice(ReportWidths widths) =>
        $"Predicted relative error {ReportText.Percent(widths.Chosen.RelativeError)} at size ratio "
        + $"{widths.Chosen.SizeRatio.ToString("0.000", CultureInfo.InvariantCulture)}; no choice of that size is predicted below "
        + $"{ReportText.Percent(widths.LowerBound)}. Measured on the outputs for {widths.LayersMeasured} layers."
        + (
            widths.Tried is [var best, ..]
                ? $" Best of {widths.Tried.Count} choices tried on the model, where its relative error was "
                    + $"{ReportText.Percent(best.RelativeError)}."
                : ""
        );
}
