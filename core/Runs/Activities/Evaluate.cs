using System.Diagnostics;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Evaluate"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt.</param>
public sealed record EvaluateInput(RunRequest Request, int Attempt)
{
    /// <summary>What the run has written; null where that is not known.</summary>
    public RunParts? Parts { get; init; }

    /// <summary>Whether a slower result is planned again.</summary>
    public bool Decides { get; init; }

    /// <summary>The largest ratio of latencies that the budget takes, or null.</summary>
    public double? MostLatencyRatio { get; init; }
}

/// <summary>The comparison, and the most memory that the process making it held.</summary>
public sealed record Evaluated(ComparisonResult Figures, long PeakBytes)
{
    /// <summary>Why nothing was compared where the run was told not to.</summary>
    internal const string NotAsked = "--no-evaluate";

    /// <summary>Of a run that was told not to compare.</summary>
    internal static Evaluated Not { get; } =
        new(new ComparisonResult(Comparison.None, 0, null, null, null, null, null, 0, null) { NotCompared = NotAsked }, 0);
}

/// <summary>Runs the original and the result in ONNX Runtime and compares them; nothing is published that was not run.</summary>
public sealed class Evaluate : Activity<EvaluateInput, Evaluated>, IRunsModels
{
    // The rest of the recipe's time is for loading and latency.
    private const double ComparingShare = 0.6;

    /// <inheritdoc/>
    public override async Task<Evaluated> RunAsync(EvaluateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var versions = await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation);
        var before = await ModelIndexer.IndexAsync(store, request.Model, cancellation);
        var assembled = RunPaths.Assembled(request.Work, input.Attempt);
        var after = await ModelIndexer.IndexAsync(store, $"{assembled}/{ModelWriter.ModelName}", cancellation);
        using var beforeFolder = await store.MaterializeAsync(
            before.Folder,
            before.Files.ToDictionary(f => f.Key, f => versions.GetValueOrDefault(f.Value.Path)),
            cancellation
        );
        using var afterFolder = await store.MaterializeAsync(
            assembled,
            after.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag),
            cancellation
        );
        using var data = await OpenDataAsync(store, request, before, versions, cancellation);
        var seen = await RunParts.SeenAsync(store, request, input.Parts, cancellation);
        var skip = data is not null && seen is { HeldOut: > 0 } ? seen.Runs : 0;
        var wanted = (await Inspect.RecipeOf(store, request, cancellation)).Evaluate;
        var options = new ComparisonOptions(TimeSpan.FromMinutes(ComparingShare * wanted.Timeout))
        {
            Samples = wanted.Samples,
            Latency = wanted.Latency,
            Decides = input.Decides,
            MostLatencyRatio = input.MostLatencyRatio,
        };
        var figures = await Task.Run(
            () => Comparison.Compare(beforeFolder.Path, before, afterFolder.Path, after, data, skip, options, cancellation),
            cancellation
        );
        using var self = Process.GetCurrentProcess();
        return new Evaluated(figures, self.PeakWorkingSet64);
    }

    internal static async Task<NpzData?> OpenDataAsync(
        IArtifactStore store,
        RunRequest request,
        ModelIndex model,
        Dictionary<string, string> versions,
        CancellationToken cancellation
    )
    {
        if (request.Data is not { } path)
            return null;
        using var folder = await store.MaterializeAsync(
            StorePath.Parent(path),
            new Dictionary<string, string?> { [StorePath.Name(path)] = versions.GetValueOrDefault(path) },
            cancellation
        );
        var file = new FileStream(
            Path.Combine(folder.Path, StorePath.Name(path)),
            FileMode.Open,
            FileAccess.Read,
            FileShare.Read | FileShare.Delete
        );
        return new NpzData(file, path, InputSpec.Of(model.Model, model.Path));
    }
}
