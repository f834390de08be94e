using System.Globalization;
using Serverless.Core.Recipes;

namespace Serverless.Core.Reports;

/// <summary>The figures of a report in words, the same on the console and in HTML.</summary>
public static class ReportText
{
    /// <summary>Time of a run, with the part in which models were compared.</summary>
    public static string Took(Report report) =>
        $"{Number(report.ElapsedSeconds, "0.0")} s"
        + (report.EvaluateSeconds > 0 ? $" (evaluating {Number(report.EvaluateSeconds, "0.0")} s)" : "");

    /// <summary>Weights compressed a second, beside a plain copy; null for models of which no copy was timed.</summary>
    public static (string Rate, string Share)? Throughput(Report report) =>
        report.CopyBytesPerSecond is { } copy && report.Stages.FirstOrDefault(s => s.BytesPerSecond is not null)?.BytesPerSecond is { } rate
            ? ($"{Number(rate / 1e9, "0.00")} GB/s", $"{Number(rate / copy, "0.00")} of a plain copy's {Number(copy / 1e9, "0.00")} GB/s")
            : null;

    /// <summary>A cosine.</summary>
    public static string Cosine(double value) => Number(value, "0.000000");

    /// <summary>A relative error.</summary>
    public static string Error(double value) => Number(value, "0.0000");

    /// <summary>A share, in percent.</summary>
    public static string Percent(double value) => Number(value, "0.0 %");

    /// <summary>The samples that the outputs were compared on, or why they were not compared.</summary>
    /// <param name="fidelity">The comparison.</param>
    /// <param name="data">Name of the data, where the samples come from any.</param>
    public static string Compared(ReportFidelity fidelity, string data) =>
        fidelity switch
        {
            { NotCompared: { } why } => $"not compared: {why}",
            { Source: "none" } => "not compared",
            { Source: "synthetic" } => $"on {Count(fidelity.Samples, "synthetic input")}",
            _ => $"on {Count(fidelity.Samples, "sample")} of {data}",
        };

    /// <summary>Whether there are figures at all.</summary>
    public static bool IsCompared(ReportFidelity fidelity) => fidelity is { NotCompared: null, Source: not "none" };

    /// <summary>Milliseconds before and after.</summary>
    public static string Change(ReportLatency latency)
    {
        var digits = Math.Max(latency.BeforeMs, latency.AfterMs) switch
        {
            < 1 => "0.000",
            < 100 => "0.00",
            _ => "0",
        };
        return $"{Number(latency.BeforeMs, digits)} ms → {Number(latency.AfterMs, digits)} ms";
    }

    /// <summary>The ratio of latencies with its spread.</summary>
    public static string Ratio(ReportLatency latency) =>
        $"×{Number(latency.Ratio, "0.00")} ({Number(latency.RatioLow, "0.00")} to {Number(latency.RatioHigh, "0.00")})";

    /// <summary>The same, and whether it says anything.</summary>
    public static string Spread(ReportLatency latency) => Ratio(latency) + (latency.Conclusive ? "" : ", no difference beyond the noise");

    /// <summary>The limits of the budget that the result misses, each with its figure; null when all are met or there is none.</summary>
    public static string? OverBudget(Report report)
    {
        if (report.Budget is not { Met: false } budget)
            return null;
        var missed = new List<string>();
        if (budget.MaxAccuracyLoss is { } most && !(budget.Loss <= most))
            missed.Add(
                budget.Loss is { } loss
                    ? $"loss {Number(loss, "0.######")}, where {Number(most, "0.######")} is allowed"
                    : "the loss could not be told"
            );
        if (budget.MaxSizeRatio is { } largest && report.Size.Ratio > largest)
            missed.Add($"size ratio {Number(report.Size.Ratio, "0.####")}, where {Number(largest, "0.####")} is allowed");
        if (budget.MaxMacRatio is { } macs && report.MultiplyAccumulates is { } counted && counted.Ratio > macs)
            missed.Add($"ratio of multiply-accumulates {Number(counted.Ratio, "0.####")}, where {Number(macs, "0.####")} is allowed");
        if (budget.MaxLatencyRatio is { } slowest && !(report.Latency?.Ratio <= (1 + RecipeBudget.LatencyTolerance) * slowest))
            missed.Add(
                report.Latency is { } latency
                    ? $"ratio of latencies {Number(latency.Ratio, "0.###")}, where {Number(slowest, "0.####")} is allowed"
                    : "the latency could not be told"
            );
        return $"Over the recipe's budget ({string.Join("; ", missed)}): this is the best attempt.";
    }

    /// <summary>A count of something, one or several.</summary>
    public static string Count(int count, string noun) => $"{Number(count, "0")} {noun}{(count == 1 ? "" : "s")}";

    /// <summary>A number, the same in every culture.</summary>
    public static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
