using Microsoft.DurableTask;
using Microsoft.Extensions.Logging;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.App;

/// <summary>The orchestration port on Durable Functions.</summary>
internal sealed class DurableOrchestration(TaskOrchestrationContext context) : IOrchestration
{
    private static readonly TaskOptions Retry = TaskOptions.FromRetryPolicy(
        new RetryPolicy(Retries.MaxAttempts, Retries.FirstPause, backoffCoefficient: 2)
        {
            HandleFailure = failure =>
                !failure.IsCausedBy<EndOfStreamException>()
                && (
                    failure.IsCausedBy<IOException>()
                    || failure.IsCausedBy<TimeoutException>()
                    || failure.IsCausedBy<ModelKilledException>()
                ),
        }
    );

    private readonly TakenRequests taken = new();
    private readonly ILogger logger = context.CreateReplaySafeLogger("Serverless.Run");

    public string Id => context.InstanceId;

    public DateTime UtcNow => context.CurrentUtcDateTime;

    public async Task<TOutput> CallAsync<TActivity, TInput, TOutput>(TInput input)
        where TActivity : Activity<TInput, TOutput>
        where TInput : notnull
        where TOutput : notnull
    {
        try
        {
            return await context.CallActivityAsync<TOutput>(typeof(TActivity).Name, input, Retry);
        }
        catch (TaskFailedException e)
        {
            throw Translate(e);
        }
    }

    public async Task<TOutput> CallPartAsync<TOrchestration, TInput, TOutput>(string id, TInput input)
        where TOrchestration : Orchestration<TInput, TOutput>, new()
        where TInput : notnull
        where TOutput : notnull
    {
        try
        {
            return await context.CallSubOrchestratorAsync<TOutput>(
                typeof(TOrchestration).Name,
                input,
                new SubOrchestrationOptions(instanceId: id)
            );
        }
        catch (TaskFailedException e)
        {
            throw Translate(e);
        }
    }

    public async Task<string?> WaitForEventAsync(string name, TimeSpan timeout)
    {
        using var stop = new CancellationTokenSource();
        var over = context.CreateTimer(timeout, stop.Token);
        string? result;
        do
        {
            var raised = context.WaitForExternalEvent<string>(name, stop.Token);
            result = await Task.WhenAny(raised, over) == raised ? await raised : null;
        } while (result is not null && !taken.Take(result)); // Delivered again: it was taken before.
#pragma warning disable CA1849 // CancelAsync goes through the thread pool, where an orchestrator must not be.
        stop.Cancel();
#pragma warning restore CA1849
        return result;
    }

    public Task SleepAsync(TimeSpan time) => context.CreateTimer(time, CancellationToken.None);

    public void SetStatus(RunStatus status) => context.SetCustomStatus(status);

    public void Log(string line) => logger.Said(context.InstanceId, Printable.Line(line));

    // The sentence for the user is that of the innermost failure, wherever it happened.
    private static Exception Translate(TaskFailedException e)
    {
        var failure = e.FailureDetails;
        while (failure.InnerFailure is { } inner && failure.ErrorType == typeof(TaskFailedException).FullName)
            failure = inner;
        if (failure.IsCausedBy<BadInputException>())
            return new BadInputException(failure.ErrorMessage, e);
        if (failure.IsCausedBy<DamagedWorkException>())
            return new DamagedWorkException(failure.ErrorMessage);
        return failure.IsCausedBy<TimeoutException>()
            ? new TimeoutException(failure.ErrorMessage, e)
            : new IOException(failure.ErrorMessage, e);
    }
}
