using System.Globalization;
using System.Text;

namespace Serverless.Core.Reports;

/// <summary>The top of the HTML report: size, warnings, figures, and what they were measured on.</summary>
internal static class HtmlFigures
{
    public static void Append(StringBuilder html, Report report)
    {
        html.Append("<p class=\"lead\"><b>")
            .Append(ByteCount.Change(report.Size.Before, report.Size.After))
            .Append("</b> (")
            .Append(ReportText.Percent(report.Size.Ratio))
            .Append(" of the original)");
        if (report.Budget is { Met: false })
            html.Append(" <span class=\"warn\">over its budget: the best attempt</span>");
        html.Append("</p>");
        if (report.Warnings.Count > 0)
        {
            html.Append("<ul class=\"warnings\">");
            foreach (var warning in report.Warnings)
                html.Append("<li>").Append(HtmlText.Escape(warning)).Append("</li>");
            html.Append("</ul>");
        }
        html.Append("<section class=\"tiles\">");
        foreach (var (name, value) in Tiles(report))
            html.Append("<div><span>").Append(name).Append("</span><b>").Append(HtmlText.Escape(value)).Append("</b></div>");
        html.Append("</section><p>").Append(Compared(report.Fidelity)).Append("</p>");
        if (report.Latency is { } latency)
            html.Append("<p>").Append(Spread(latency)).Append("</p>");
        if (report.Budget is { } budget)
            html.Append("<p>").Append(Budget(budget, report)).Append("</p>");
    }

    private static IEnumerable<(string Name, string Value)> Tiles(Report report)
    {
        var fidelity = report.Fidelity;
        if (ReportText.IsCompared(fidelity))
        {
            if (fidelity.Cosine is { } cosine)
                yield return ("Cosine of outputs", ReportText.Cosine(cosine));
            if (fidelity.RelativeError is { } error)
                yield return ("Relative error", ReportText.Error(error));
            yield return ("Top-1 agreement", fidelity.Top1Agreement is { } top ? ReportText.Percent(top) : "no classes");
        }
        else
            yield return ("Outputs", "not compared");
        if (report.Accuracy is { } a)
            yield return ("Accuracy", $"{ReportText.Percent(a.Before)} → {ReportText.Percent(a.After)}");
        if (report.Latency is { } l)
            yield return ("Latency", ReportText.Change(l));
        var weights = report.Parameters;
        yield return (
            "Weights",
            $"{weights.After.ToString("N0", CultureInfo.InvariantCulture)}, "
                + $"{ReportText.Percent(1 - ((double)weights.Nonzero / Math.Max(1, weights.After)))} zero"
        );
        if (ReportText.Throughput(report) is var (rate, share))
            yield return ("Compressing", $"{rate}, {share}");
        yield return ("Took", $"{ReportText.Took(report)}, {ByteCount.Text(report.PeakMemoryBytes)} memory");
    }

    private static string Compared(ReportFidelity fidelity)
    {
        var compared = HtmlText.Escape(ReportText.Compared(fidelity, "the dropped data"));
        if (!ReportText.IsCompared(fidelity))
            return $"The outputs were {compared}.";
        return $"Outputs compared {compared}."
            + (
                fidelity.Source == "synthetic"
                    ? " <b>Synthetic</b> inputs are made up from the model's input types: "
                        + "they show that the model still computes the same, not how well it does its job."
                    : ""
            );
    }

    private static string Spread(ReportLatency latency) =>
        $"Latency {ReportText.Ratio(latency)}: the models ran in turn, and the ratio lies in this range with 90 % confidence. "
        + (latency.Conclusive ? "The difference is larger than the noise." : "There is <b>no difference beyond the noise</b>.");

    private static string Budget(ReportBudget budget, Report report)
    {
        var loss = budget.Loss is { } l ? ReportText.Number(l, "0.#####") : "could not be told";
        var most = budget.MaxAccuracyLoss is { } m ? $" of at most {ReportText.Number(m, "G")}" : "";
        var size = budget.MaxSizeRatio is { } ratio
            ? $", size ratio {ReportText.Number(report.Size.Ratio, "0.###")} of at most {ReportText.Number(ratio, "G")}"
            : "";
        var macs =
            budget.MaxMacRatio is { } cost && report.MultiplyAccumulates is { } counted
                ? $", ratio of multiply-accumulates {ReportText.Number(counted.Ratio, "0.###")} of at most {ReportText.Number(cost, "G")}"
                : "";
        var latency = budget.MaxLatencyRatio is { } slowest
            ? ", ratio of latencies "
                + (report.Latency is { } timed ? ReportText.Number(timed.Ratio, "0.###") : "not told")
                + $" of at most {ReportText.Number(slowest, "G")}"
            : "";
        return $"Budget: {HtmlText.Escape(budget.Measure)} loss {loss}{most}{size}{macs}{latency}, "
            + $"{ReportText.Count(report.Attempts, "attempt")}.";
    }
}
