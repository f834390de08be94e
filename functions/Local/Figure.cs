using Serverless.Core.Reports;

namespace Serverless.Local;

/// <summary>One row of a result: a figure in one unit, and a remark on it.</summary>
internal sealed record Figure(string Name, string Value, string Remark = "")
{
    /// <summary>The figures of a report.</summary>
    /// <param name="report">The report.</param>
    /// <param name="data">Name of the data file that the outputs may have been compared on.</param>
    public static IReadOnlyList<Figure> Of(Report report, string data)
    {
        var size = new Figure("Size", ByteCount.Change(report.Size.Before, report.Size.After), ReportText.Percent(report.Size.Ratio));
        List<Figure> figures = [size, .. Fidelity(report.Fidelity, data)];
        if (report.Accuracy is { } a)
            figures.Add(new("Accuracy", $"{ReportText.Percent(a.Before)} → {ReportText.Percent(a.After)}", $"of {a.Samples} labels"));
        if (report.Latency is { } l)
            figures.Add(new("Latency", ReportText.Change(l), ReportText.Spread(l)));
        if (ReportText.Throughput(report) is var (rate, share))
            figures.Add(new("Compressing", rate, share));
        return figures;
    }

    private static IEnumerable<Figure> Fidelity(ReportFidelity f, string data)
    {
        var compared = ReportText.Compared(f, data);
        if (!ReportText.IsCompared(f))
        {
            yield return new("Fidelity", compared);
            yield break;
        }
        if (f.Cosine is { } cosine)
            yield return new("Cosine", ReportText.Cosine(cosine), compared);
        if (f.RelativeError is { } error)
            yield return new("Relative error", ReportText.Error(error), compared);
        if (f.Top1Agreement is { } top)
            yield return new("Top-1 agreement", ReportText.Percent(top), compared);
    }
}
