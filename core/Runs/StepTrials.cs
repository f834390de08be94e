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
    private readonly IArtifactStore store;
    private readonly RunRequest request;
    private readonly ModelIndex index;
    private readonly CalibrationPlan calibration;
    private readonly NpzData? data;
    private LocalFolder? folder;
    private IReadOnlyList<Sample>? synthetic;
    private ModelTrial? original;

    private StepTrials(IArtifactStore store, RunRequest request, ModelIndex index, CalibrationPlan calibration, NpzData? data) =>
        (this.store, this.request, this.index, this.calibration, this.data) = (store, request, index, calibration, data);

    /// <summary>What the step is given.</summary>
    public ModelTrials Trials =>
        new(index, calibration.Runs, data is not null)
        {
            FolderAsync = FolderAsync,
            ReadAsync = ReadAsync,
            ChangeAsync = ChangeAsync,
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

    /// <inheritdoc/>
    public void Dispose()
    {
        original?.Dispose();
        folder?.Dispose();
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

    private async Task<OutputChange?> ChangeAsync(ModelProto changed, CancellationToken cancellation)
    {
        original ??= await ModelTrial.OpenAsync(store, request, ModelTrial.MostRuns, int.MaxValue, cancellation);
        return original.Runs ? await original.ChangeAsync(changed, calibration.Source, cancellation) : null;
    }
}
