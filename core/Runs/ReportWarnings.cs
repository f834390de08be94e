using System.Globalization;
using Serverless.Core.Evaluation;
using Serverless.Core.Forms;
using Serverless.Core.Recipes;
using Serverless.Core.Reports;

namespace Serverless.Core.Runs;

/// <summary>What whoever uses a result should know first.</summary>
public static class ReportWarnings
{
    private const double LowCosine = 0.9,
        HighError = 0.5,
        NotSmaller = 0.999,
        Slower = 1.05;
    private const int MostReasons = 3;
    private const long MuchToLoad = 2L << 30;

    /// <summary>The warnings, most important first, a sentence each.</summary>
    /// <param name="report">The report without them.</param>
    /// <param name="figures">The comparison that it is about.</param>
    /// <param name="unmatched">Rules of the recipe that match no layer.</param>
    /// <param name="steps">Sentences of the steps.</param>
    public static IReadOnlyList<string> Of(
        Report report,
        ComparisonResult figures,
        IReadOnlyList<string> unmatched,
        IReadOnlyList<string> steps
    )
    {
        var found = new List<string>();
        if (unmatched.Count > 0)
            found.Add(
                $"No layer matches {string.Join(", ", unmatched.Select(m => $"'{m}'"))} under 'layers' in the recipe; "
                    + "'inspect' lists the names."
            );
        if (figures.NotCompared == Evaluated.NotAsked)
            found.Add(
                "The result was not run and not compared with the original (--no-evaluate)"
                    + (
                        report.Layers.Any(l => l.Form is { } form && FormName.IsInteger(form))
                            ? ", nor timed: integer kernels stay, also where they are slower than float."
                            : "."
                    )
            );
        else if (figures.NotCompared is { } why)
            found.Add($"The result was loaded but not compared with the original: {why}.");
        if (!figures.IsRepeatable)
            found.Add(
                $"The original differs from itself by {Number(figures.RepeatError)} when it is run again: the figures "
                    + "do not tell what compression changed."
            );
        if (report.Budget is { MaxAccuracyLoss: not null, Loss: null })
            found.Add("Whether the loss is within the budget could not be told.");
        if (report.Budget is { MaxLatencyRatio: { } slowest })
        {
            if (report.Latency is not { } timed)
                found.Add("Whether the latency is within the budget could not be told: the models were not run.");
            else if (timed.RatioLow < slowest && timed.RatioHigh > (1 + RecipeBudget.LatencyTolerance) * slowest)
                found.Add(
                    $"The ratio of latencies lies between {Number(timed.RatioLow)} and {Number(timed.RatioHigh)}: on another day it may be "
                        + "judged otherwise."
                );
        }
        foreach (var o in figures.Outputs.Where(o => o.ChangedShapes > 0))
        {
            found.Add(
                $"The output '{o.Name}' has another shape in {o.ChangedShapes} of {figures.Samples} samples "
                    + $"({o.ElementsBefore:N0} elements before, {o.ElementsAfter:N0} after); elements without a "
                    + "counterpart are compared with zero."
            );
        }
        var silent = figures
            .Outputs.Where(o => o.Cosine is null && o.ElementsBefore > 0 && o.Type != "String")
            .Select(o => $"'{o.Name}'")
            .ToList();
        if (figures.NotCompared is null && silent.Count > 0)
            found.Add($"Not compared, as the original puts out no finite numbers other than zero there: {string.Join(", ", silent)}.");
        if (figures.LabelsOutside > 0)
            found.Add(
                $"{figures.LabelsOutside:N0} of {figures.Labelled:N0} labels are no classes of the first output: "
                    + "check 'labels' in data.npz."
            );
        if (figures.ZeroInputs.Count > 0)
            found.Add(
                "The data is zero in every sample compared "
                    + $"({string.Join(", ", figures.ZeroInputs.Select(n => $"'{n}'"))}): check how data.npz was written."
            );
        if ((figures.Cosine < LowCosine || figures.RelativeError > HighError) && figures.IsRepeatable)
            found.Add(
                $"The outputs are far from the original's (cosine {Number(figures.Cosine)}, relative error "
                    + $"{Number(figures.RelativeError)}): ask for less, or take another method, or data to calibrate on."
            );
        found.AddRange(steps);
        var scattered = report
            .Layers.Where(l => l.Form is FormName.Bitmap or FormName.Gap)
            .Sum(l => l.Shape.Aggregate(1L, (a, b) => a * b));
        if (scattered * SparseForm.BytesWhileLoading is > MuchToLoad and var bytes)
            found.Add(
                $"Loading takes about {bytes / 1_000_000_000:N0} GB of memory for a moment, while ONNX Runtime puts {scattered / 1_000_000:N0} million "
                    + "weights in their places; layers that 'skip' leaves out are loaded as before."
            );
        if (report.EntropyCoding is { } coded)
            found.Add(
                "Weights are decoded while ONNX Runtime loads the model "
                    + (report.Load is { } load ? $"({Number(load.AfterSeconds)} s, {load.AfterBytes >> 20:N0} MB): " : ": ")
                    + "with its graph optimizations off they are decoded at every run; 'unpack' writes the same model with plain codes."
            );
        if (report.Latency is { Conclusive: true, Ratio: > Slower } latency)
            found.Add($"The result is slower than the original (×{latency.Ratio.ToString("0.00", CultureInfo.InvariantCulture)}).");
        if (report.Size.Ratio >= NotSmaller)
            found.Add($"Nothing got smaller. {Reasons(report)}");
        return found;
    }

    private static string Reasons(Report report)
    {
        // Behind the colon stands what to do about all of them, or figures of each.
        var reasons = report
            .Layers.Where(l => l.Note is not null)
            .GroupBy(l => l.Note!.Split(':')[0])
            .OrderByDescending(g => g.Sum(l => l.BytesBefore))
            .Take(MostReasons)
            .Select(g => (Layers: g.ToList(), Why: g.Select(l => l.Note).Distinct().Count() == 1 ? g.First().Note : g.Key))
            .Select(g =>
                $"{g.Layers.Count} {(g.Layers.Count == 1 ? "weight" : "weights")} ({g.Layers.Sum(l => l.BytesBefore):N0} bytes): {g.Why}"
            )
            .ToList();
        return reasons.Count == 0 ? "The model holds no weights." : string.Join("; ", reasons) + ".";
    }

    private static string Number(double? value) => value?.ToString("0.####", CultureInfo.InvariantCulture) ?? "unknown";
}
