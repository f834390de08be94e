namespace Serverless.Core.Runs;

/// <summary>How a drop ended.</summary>
/// <param name="Status"><c>succeeded</c>, <c>over-budget</c>, or <c>superseded</c> when the drop changed before it began.</param>
/// <param name="Run">The result, or null when superseded.</param>
public sealed record DropResult(string Status, RunResult? Run)
{
    /// <summary>The status of a drop that another version of it took the place of.</summary>
    public const string Superseded = "superseded";
}

/// <summary>
/// From a drop event to a result: waits until all that the model names has arrived, runs it, and leaves
/// <c>failed/NAME/RUN/error.json</c> when that cannot be done. A folder is given a moment for more files to come: what
/// comes later makes another drop, and this one ends as superseded.
/// </summary>
public sealed class DropRun : Orchestration<DropRequest, DropResult>
{
    /// <summary>How long a folder must stay as it is before it is taken.</summary>
    public static readonly TimeSpan Settling = TimeSpan.FromSeconds(5);

    /// <summary>Pause between looks for missing data; grows to <see cref="LongestPause"/>.</summary>
    public static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(10);

    /// <summary>Longest pause between looks.</summary>
    public static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(5);

    /// <summary>How long missing data is waited for.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromHours(2);

    /// <inheritdoc/>
    public override async Task<DropResult> RunAsync(IOrchestration host, DropRequest input)
    {
        try
        {
            if (await WholeAsync(host, input) is not { } request)
            {
                host.Log("The drop changed before it began; its new version has a run of its own.");
                return new DropResult(DropResult.Superseded, null);
            }
            var result = await new CompressionRun().RunAsync(host, request);
            await host.CallAsync<ClearWork, ClearInput, Cleared>(new ClearInput(request.Work));
            return new DropResult(result.Status, result);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            await SayAsync(host, new FailureInput(input.RunId, input.Model, e.Message));
            throw;
        }
    }

    // That it cannot be written down must not take the place of the failure itself.
    private static async Task SayAsync(IOrchestration host, FailureInput failure)
    {
        try
        {
            await host.CallAsync<WriteFailure, FailureInput, FailureWritten>(failure);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            host.Log($"{RunPaths.Failure(failure.RunId)} could not be written: {e.Message}");
        }
    }

    private static async Task<RunRequest?> WholeAsync(IOrchestration host, DropRequest input)
    {
        var (settled, look, waited) = (false, 0, TimeSpan.Zero);
        for (var pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            var state = await host.CallAsync<CheckDrop, DropCheck, DropState>(new DropCheck(input, look++));
            if (state.Superseded)
                return null;
            if (state.Request is { } request)
            {
                if (settled || !state.IsFolder)
                    return request;
                settled = true;
                await host.SleepAsync(Settling);
                continue;
            }
            if (waited >= Patience)
                throw new BadInputException($"{state.Missing} It was waited for {Patience.TotalHours:0} hours.");
            host.Log($"{state.Missing} Waiting for it.");
            await host.SleepAsync(pause);
            waited += pause;
        }
    }
}
