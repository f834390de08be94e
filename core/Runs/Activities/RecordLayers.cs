namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="RecordLayers"/>.</summary>
/// <param name="Work">The run's work folder.</param>
/// <param name="Attempt">The attempt.</param>
/// <param name="Results">The results, without their names.</param>
public sealed record RecordInput(string Work, int Attempt, IReadOnlyList<LayerResult> Results);

/// <summary>How many results were written down.</summary>
public sealed record LayersRecorded(int Layers);

/// <summary>Writes down what became of some layers, in one object.</summary>
public sealed class RecordLayers : Activity<RecordInput, LayersRecorded>
{
    /// <inheritdoc/>
    public override async Task<LayersRecorded> RunAsync(RecordInput input, ActivityContext context, CancellationToken cancellation)
    {
        await LayerRecords.WriteResultsAsync(context.Store, input.Work, input.Attempt, input.Results, cancellation);
        return new LayersRecorded(input.Results.Count);
    }
}
