namespace Serverless.Core.Runs;

/// <summary>Time that a run spent at a stage, all attempts together.</summary>
/// <param name="Stage">The stage, as statuses name it.</param>
/// <param name="Seconds">Its time.</param>
public sealed record StageTime(string Stage, double Seconds);

/// <summary>An orchestration that notes when the stage of its status changes.</summary>
/// <param name="host">The orchestration.</param>
internal sealed class StageClock(IOrchestration host) : IOrchestration
{
    private readonly List<(string Stage, DateTime Since)> changes = [];

    /// <summary>The stages that are over, in the order in which they began.</summary>
    public IReadOnlyList<StageTime> Times =>
        [
            .. changes
                .Zip(changes.Skip(1), (from, to) => (from.Stage, (to.Since - from.Since).TotalSeconds))
                .GroupBy(s => s.Stage)
                .Select(g => new StageTime(g.Key, Math.Max(0, g.Sum(s => s.TotalSeconds)))),
        ];

    public string Id => host.Id;

    public DateTime UtcNow => host.UtcNow;

    public Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull => host.CallAsync<TActivity, TInput, TOutput>(input);

    public Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string id, TInput input)
        where TOrchestration : Orchestration<TInput, TOutput>, new()
        where TInput : notnull
        where TOutput : notnull => host.CallPartAsync<TOrchestration, TInput, TOutput>(id, input);

    public Task<string?> WaitForEventAsync(string name, TimeSpan timeout) => host.WaitForEventAsync(name, timeout);

    public Task SleepAsync(TimeSpan time) => host.SleepAsync(time);

    public void SetStatus(RunStatus status)
    {
        if (changes.Count == 0 || changes[^1].Stage != status.Stage)
            changes.Add((status.Stage, host.UtcNow));
        host.SetStatus(status);
    }

    public void Log(string line) => host.Log(line);
}
