using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Reports;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Publish"/>.</summary>
/// <param name="RunId">The run.</param>
/// <param name="Request">What was asked.</param>
/// <param name="Status">How it ended.</param>
/// <param name="Started">When it began.</param>
/// <param name="Inspected">The original.</param>
/// <param name="Budget">The budget.</param>
/// <param name="Best">The attempt to publish.</param>
public sealed record PublishInput(
    string RunId,
    RunRequest Request,
    string Status,
    DateTime Started,
    Inspected Inspected,
    Budget Budget,
    Attempt Best
)
{
    /// <summary>Attempts that were made.</summary>
    public int Attempts { get; init; } = Best.Number + 1;

    /// <summary>What the run spent its time on so far.</summary>
    public IReadOnlyList<StageTime> Stages { get; init; } = [];

    /// <summary>What the run has written; null where that is not known.</summary>
    public RunParts? Parts { get; init; }
}

/// <summary>Where the result is.</summary>
public sealed record Published(string Output);

/// <summary>Writes the reports beside the model and lets the whole appear at once, <c>report.json</c> last.</summary>
public sealed class Publish : Activity<PublishInput, Published>
{
    /// <inheritdoc/>
    public override async Task<Published> RunAsync(PublishInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var from = RunPaths.Assembled(request.Work, input.Best.Number);
        // Killed after the move and before the journal: the result is there already.
        if (!await AnyAsync(store, $"{from}/", cancellation) && await IsPublishedAsync(store, input, cancellation))
            return new Published(request.Output);
        if (await store.FindAsync($"{from}/{ModelWriter.ModelName}", cancellation) is null)
            return await IsPublishedAsync(store, input, cancellation)
                ? new Published(request.Output)
                : throw new DamagedWorkException($"{from}/{ModelWriter.ModelName} is missing.");
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var yaml = RecipeWriter.Write(recipe);
        var (work, attempt, parts) = (request.Work, input.Best.Number, input.Parts);
        var calibration = await RunParts.SeenAsync(store, request, parts, cancellation);
        var facts = await store.ReadJsonAsync<StateFacts>(RunPaths.Lowered(request.State, attempt), cancellation);
        var widths = await RunParts.ReadAsync<AllocationChoice>(store, RunPaths.Allocation(request.State, attempt), null, cancellation);
        var tasks = await LayerRecords.TasksAsync(store, request.State, attempt, cancellation);
        var layers = await LayersAsync(store, request, attempt, tasks, facts, cancellation);
        var report = Describe(input, context.PeakMemory?.Invoke() ?? 0, layers) with
        {
            Calibration = calibration is { } c
                ? new ReportCalibration(c.Source, c.Runs, c.Source != Evaluation.Comparison.Data || c.HeldOut > 0)
                : null,
            Notes = facts.Notes,
            Widths = widths is { } w ? Describe(w) : null,
            EntropyCoding = facts.Entropy is { } e ? new ReportEntropyCoding(e.Constants, e.BytesBefore, e.BytesAfter) : null,
            Load = input.Best.Evaluated.Figures is { LoadBefore: { } before, LoadAfter: { } after }
                ? new ReportLoad(before.Seconds, after.Seconds, before.Bytes, after.Bytes)
                : null,
        };
        report = LocalPaths.Hide(report, store);
        report = report with
        {
            Warnings = ReportWarnings.Of(
                report,
                input.Best.Evaluated.Figures,
                LayerTasks.Unmatched(recipe, [.. report.Layers.Select(l => (l.Name, l.Node)), .. facts.ReplacedNames]),
                [.. facts.Warnings, .. tasks.Select(t => t.Plan?.Warning).OfType<string>().Distinct()]
            ),
        };
        var files = new List<ReportFile>();
        foreach (var name in new[] { ModelWriter.ModelName, ModelWriter.DataName })
            if (await store.FindAsync($"{from}/{name}", cancellation) is { } model)
                files.Add(new ReportFile(name, model.Length, await HashAsync(store, model.Path, cancellation)));
        if (files.Sum(f => f.Bytes) != input.Best.Assembled.Bytes)
            throw new DamagedWorkException($"{from}/{ModelWriter.DataName} is missing.");
        foreach (var (name, text) in new[] { ("recipe.yaml", yaml), ("report.html", HtmlReport.Render(report, yaml)) })
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            await store.WriteBytesAsync($"{from}/{name}", bytes, cancellation);
            files.Add(new ReportFile(name, bytes.Length, Convert.ToHexStringLower(SHA256.HashData(bytes))));
        }
        await store.WriteBytesAsync(
            $"{from}/report.json",
            JsonSerializer.SerializeToUtf8Bytes(report with { Files = files }, Json.Indented),
            cancellation
        );
        await store.PublishAsync(from, request.Output, cancellation);
        return new Published(request.Output);
    }

    private static async Task<string> HashAsync(IArtifactStore store, string path, CancellationToken cancellation)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        await using var reader = await store.OpenAsync(path, null, cancellation);
        await reader.ScanAsync(hash.AppendData, cancellation);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static ReportPoint Point(AllocationPoint p) => new(p.SizeRatio, p.RelativeError);

    private static ReportWidths Describe(AllocationChoice w) =>
        new([.. w.Curve.Select(Point)], Point(w.Chosen), w.LowerBound, w.LayersMeasured)
        {
            Tried =
            [
                .. w.Tried.Select(t => new ReportTried(
                    (int)t.LeastLevel,
                    t.Predicted.SizeRatio,
                    t.Predicted.RelativeError,
                    t.RelativeError
                )),
            ],
        };

    private static async Task<bool> AnyAsync(IArtifactStore store, string prefix, CancellationToken cancellation)
    {
        await foreach (var _ in store.ListAsync(prefix, cancellation))
            return true;
        return false;
    }

    private static async Task<bool> IsPublishedAsync(IArtifactStore store, PublishInput input, CancellationToken cancellation) =>
        await store.FindAsync($"{input.Request.Output}/report.json", cancellation) is not null
        && (await store.ReadJsonAsync<Report>($"{input.Request.Output}/report.json", cancellation)).RunId == input.RunId;

    private static Report Describe(PublishInput input, long peakTogether, IReadOnlyList<ReportLayer> layers)
    {
        var request = input.Request;
        var (best, figures) = (input.Best, input.Best.Evaluated.Figures);
        var (measure, loss) = figures.Loss;
        using var self = Process.GetCurrentProcess();
        var read = layers.Where(l => l.Steps.Count > 0 && !l.Reused).Sum(l => l.BytesBefore);
        return new Report(
            input.Status,
            input.RunId,
            StorePath.Name(request.Model),
            new ReportSize(input.Inspected.Bytes, best.Assembled.Bytes, (double)best.Assembled.Bytes / input.Inspected.Bytes),
            new ReportParameters(input.Inspected.Parameters, best.Assembled.Parameters, best.Assembled.Nonzero),
            new ReportFidelity(figures.Source, figures.Samples, figures.Cosine, figures.RelativeError, figures.Top1Agreement)
            {
                NotCompared = figures.NotCompared,
                RepeatError = figures.RepeatError,
                Outputs =
                [
                    .. figures.Outputs.Select(o => new ReportOutput(
                        o.Name,
                        o.Type,
                        o.Cosine,
                        o.RelativeError,
                        o.Compared,
                        o.ChangedShapes,
                        o.ElementsBefore,
                        o.ElementsAfter
                    )),
                ],
            },
            figures.AccuracyBefore is { } before ? new ReportAccuracy(before, figures.AccuracyAfter!.Value, figures.Labelled) : null,
            figures.Latency is not { } l
                ? null
                : new ReportLatency(l.BeforeMs, l.AfterMs, l.Ratio, l.Segments)
                {
                    RatioLow = l.RatioLow,
                    RatioHigh = l.RatioHigh,
                    Conclusive = l.Conclusive,
                },
            input.Budget is { MaxAccuracyLoss: null, MaxSizeRatio: null, MaxMacRatio: null, MaxLatencyRatio: null }
                ? null
                : new ReportBudget(
                    input.Budget.MaxAccuracyLoss,
                    input.Budget.MaxSizeRatio,
                    measure,
                    loss,
                    input.Status == RunResult.Succeeded
                )
                {
                    MaxMacRatio = input.Budget.MaxMacRatio,
                    MaxLatencyRatio = input.Budget.MaxLatencyRatio,
                },
            layers,
            input.Attempts,
            Math.Max(0, (DateTime.UtcNow - input.Started).TotalSeconds),
            Math.Max(peakTogether, Math.Max(self.PeakWorkingSet64, best.Evaluated.PeakBytes))
        )
        {
            Predecessor = request.Predecessor,
            Stages =
            [
                .. input.Stages.Select(s => new ReportStage(s.Stage, s.Seconds)
                {
                    BytesPerSecond = s is { Stage: RunStatus.Compress, Seconds: > 0 } ? read / s.Seconds : null,
                }),
            ],
            CopyBytesPerSecond = input.Inspected.CopyBytesPerSecond,
            EvaluateSeconds = input.Stages.Where(s => s.Stage == nameof(Evaluate)).Sum(s => s.Seconds),
            MultiplyAccumulates = new ReportMultiplyAccumulates(
                input.Inspected.MultiplyAccumulates,
                best.Assembled.MultiplyAccumulates,
                (double)best.Assembled.MultiplyAccumulates / Math.Max(1, input.Inspected.MultiplyAccumulates)
            ),
        };
    }

    private static async Task<IReadOnlyList<ReportLayer>> LayersAsync(
        IArtifactStore store,
        RunRequest request,
        int attempt,
        IReadOnlyList<LayerTask> tasks,
        StateFacts facts,
        CancellationToken cancellation
    )
    {
        var results = (await LayerRecords.ResultsAsync(store, request.State, attempt, tasks, cancellation)).ToDictionary(r =>
            r.Figures.Index
        );
        return [.. tasks.Select(t => Describe(t, t.Step is null ? null : results[t.Index], facts))];
    }

    private static ReportLayer Describe(LayerTask task, LayerResult? result, StateFacts facts)
    {
        var (origin, note) = (facts.Origins.GetValueOrDefault(task.Name), facts.LayerNotes.GetValueOrDefault(task.Name));
        var layer = result?.Stored?.Layer;
        var elements = (double)Math.Max(1, task.Shape.Elements);
        var nonzero = layer?.Nonzero ?? origin?.Nonzero;
        return new ReportLayer(
            task.Name,
            task.Node,
            task.Op,
            task.Dims,
            [.. origin?.Steps ?? [], .. layer is null ? [] : task.Labels],
            layer?.Grid.BitsPerWeight ?? DataTypes.Bits(task.Data.DataType),
            nonzero is { } n && n <= elements ? 1 - n / elements : 0,
            layer is { Rank: > 0 } ? layer.Rank : origin?.Rank,
            origin?.BytesBefore ?? task.Data.Length,
            (layer is null ? task.Data.Length : result!.Figures.BytesAfter) - facts.SavedByCoding.GetValueOrDefault(task.Name),
            LayerCache.Together(origin?.Error ?? 0, layer?.RelativeError ?? 0),
            layer is null ? 0 : result!.Figures.Seconds,
            note?.Form ?? layer?.Form,
            layer?.Grid.GroupSize,
            layer is not null && result!.Figures.Reused,
            layer is null && origin is null ? facts.Reason(task) ?? result?.Figures.Note : null
        )
        {
            Fallback = note?.Fallback ?? layer?.Fallback,
            EntropyCoded = facts.SavedByCoding.ContainsKey(task.Name),
            NotApplied = [.. facts.AllNotApplied(task).Select(n => new ReportNotApplied(n.Step, n.Reason))],
        };
    }
}
