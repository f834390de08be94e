namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="CancelRun"/>.</summary>
/// <param name="RunId">The run.</param>
public sealed record CancelInput(string RunId);

/// <summary>
/// Clears what a cancelled run kept for itself, until its last activities have ended and nothing more appears; then takes
/// the mark away (<see cref="RunPaths.Cancelled"/>).
/// </summary>
public sealed class CancelRun : Orchestration<CancelInput, Cleared>
{
    /// <summary>Pause between two looks; activities hear of the cancellation within it.</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromSeconds(6);

    private const int QuietLooks = 2,
        MostLooks = 600;

    /// <summary>The id of the orchestration that clears a run.</summary>
    public static string IdOf(string runId) => $"cancel:{runId}";

    /// <inheritdoc/>
    public override async Task<Cleared> RunAsync(IOrchestration host, CancelInput input)
    {
        var objects = 0;
        for (var (look, quiet) = (0, 0); quiet < QuietLooks && look < MostLooks; look++)
        {
            if (look > 0)
                await host.SleepAsync(Pause);
            var cleared = await host.CallAsync<ClearWork, ClearInput, Cleared>(new ClearInput($"work/{input.RunId}") { Look = look });
            objects += cleared.Objects;
            quiet = cleared.Objects > 0 || look == 0 ? 0 : quiet + 1;
        }
        await host.CallAsync<ClearWork, ClearInput, Cleared>(new ClearInput(RunPaths.Cancelled(input.RunId)) { Alone = true });
        return new Cleared(objects);
    }
}
