using System.Globalization;
using System.Text;

namespace Serverless.Core.Reports;

/// <summary>Figures of the steps, calibration and bit allocation in the HTML report.</summary>
internal static class HtmlMethods
{
    public static void Append(StringBuilder html, Report report)
    {
        HtmlNotes.Append(html, report.Notes);
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
        "Predicted relative error, against the model that the chain began with, "
        + $"{ReportText.Percent(widths.Chosen.RelativeError)} at size ratio "
        + $"{widths.Chosen.SizeRatio.ToString("0.000", CultureInfo.InvariantCulture)}; no choice of that size is predicted below "
        + $"{ReportText.Percent(widths.LowerBound)}. Measured on the outputs for {widths.LayersMeasured} layers."
        + (
            widths.Tried is [var best, ..]
                ? $" Best of {widths.Tried.Count} choices tried on the model, where its relative error was "
                    + $"{ReportText.Percent(best.RelativeError)}."
                : ""
        );
}
