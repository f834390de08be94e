using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Runs of the model that a graph step asks for, and the files that they take on this machine for as long as it works.</summary>
internal sealed class StepTrials : IDisposable
{
    // A choice is made by these times: the interval of a ratio is to be this share of it.
    private const double TimedWidth = 0.08;
    private readonly IArtifactStore store;
    private readonly RunRequest request;
    private readonly ModelIndex index;
    private readonly CalibrationPlan calibration;
    private readonly NpzData? data;
    private LocalFolder? folder;
    private IReadOnlyList<Sample>? synthetic;
    private ModelTrial? original;
    private MachineTimes? times;
    private (ModelIndex Index, Dictionary<string, string> Versions, LocalFolder Files)? timed;

    private StepTrials(IArtifactStore store, RunRequest request, ModelIndex index, CalibrationPlan calibration, NpzData? data) =>
        (this.store, this.request, this.index, this.calibration, this.data) = (store, request, index, calibration, data);

    /// <summary>What the step is given.</summary>
    public ModelTrials Trials =>
        new(index, calibration.Runs, data is not null)
        {
            FolderAsync = FolderAsync,
            ReadAsync = ReadAsync,
            ChangeAsync = ChangeAsync,
            TimeAsync = TimeAsync,
            TimesAsync = async token => (times ??= await MachineTimes.OpenAsync(store, token)).Times,
        };

    /// <summary>Opens the model and the samples that were chosen for a state (<see cref="PlanCalibration"/>).</summary>
    public static async Task<StepTrials> OpenAsync(IArtifactStore store, RunRequest request, CancellationToken cancellation)
    {
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(request.State), cancellation);
        var index = await ModelIndexer.IndexAsync(
            store,
            $"{RunPaths.CalibrationModel(request.State)}/{ModelWriter.ModelName}",
            cancellation
        );
        var data = await CalibrateShard.OpenDataAsync(store, request, index, cancellation);
        return new StepTrials(store, request, index, calibration, data);
    }

    /// <summary>Keeps what was measured of operators, for later runs.</summary>
    public Task KeepTimesAsync(CancellationToken cancellation) => times?.KeepAsync(cancellation) ?? Task.CompletedTask;

    /// <inheritdoc/>
    public void Dispose()
    {
        original?.Dispose();
        folder?.Dispose();
        timed?.Files.Dispose();
        data?.Dispose();
    }

    private async Task<string> FolderAsync(CancellationToken cancellation)
    {
        folder ??= await store.MaterializeAsync(
            index.Folder,
            index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag),
            cancellation
        );
        return folder.Path;
    }

    private async Task<IEnumerable<Sample>> ReadAsync(int count, CancellationToken cancellation)
    {
        count = Math.Min(count, calibration.Runs);
        if (data is not null)
            return data.Read(0, cancellation).Take(count);
        if (count > (synthetic?.Count ?? 0))
            synthetic = await CalibrateShard.SamplesAsync(
                store,
                request,
                0,
                calibration.Runs,
                await FolderAsync(cancellation),
                index,
                cancellation
            );
        return synthetic?.Take(count) ?? [];
    }

    private async Task<OutputChange?> ChangeAsync(ModelProto changed, int most, CancellationToken cancellation)
    {
        original ??= await ModelTrial.OpenAsync(store, request, ModelTrial.MostRuns, int.MaxValue, cancellation);
        return original.Runs ? await original.ChangeAsync(changed, calibration.Source, most, cancellation) : null;
    }

    // The original as it was dropped, for as long as the step works.
    private async Task<(ModelIndex Index, Dictionary<string, string> Versions, LocalFolder Files)> DroppedAsync(
        CancellationToken cancellation
    )
    {
        var versions = await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation);
        var dropped = await ModelIndexer.IndexAsync(store, request.Model, cancellation);
        var files = dropped.Files.ToDictionary(f => f.Key, f => versions.GetValueOrDefault(f.Value.Path));
        return (dropped, versions, await store.MaterializeAsync(dropped.Folder, files, cancellation));
    }

    // Two sessions are open at a time, as at the last comparison, and none afterwards.
    private async Task<ModelTime?> TimeAsync(ModelProto changed, CancellationToken cancellation)
    {
        if (index.Bytes > ModelRunner.WholeLimit || (await ReadAsync(1, cancellation)).FirstOrDefault() is not { } sample)
            return null;
        var (before, versions, files) = timed ??= await DroppedAsync(cancellation);
        await using var written = await WrittenModel.WriteAsync(
            store,
            changed.Clone(),
            before.Folder,
            versions,
            $"{request.Work}/trials/{Guid.NewGuid():N}",
            ModelWriter.ProtobufLimit,
            cancellation
        );
        using var a = Comparison.Load(files.Path, before, before, byDefault: true);
        using var b = new ModelRunner(written.Folder, written.Index, byDefault: true);
        if (a.Segments > 1)
            return null;
        var latency = Latency.Of(PairedLatency.Measure(a, b, sample, decides: false, limit: null, width: TimedWidth, cancellation), 1);
        return new ModelTime(latency.AfterMs, latency.Ratio);
    }
}
