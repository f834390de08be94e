using Serverless.Core.Events;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// One step of work: input record → output record. Inputs and outputs are small (names, numbers, references into the
/// store). Doing it twice does no harm: what it writes has a name that follows from its input.
/// </summary>
/// <typeparam name="TInput">Input record.</typeparam>
/// <typeparam name="TOutput">Output record.</typeparam>
public abstract class Activity<TInput, TOutput>
{
    /// <summary>Does the work.</summary>
    /// <param name="input">What to do.</param>
    /// <param name="context">What the host gives.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public abstract Task<TOutput> RunAsync(TInput input, ActivityContext context, CancellationToken cancellation);
}

/// <summary>Work that runs native code on the user's model: a host may give it a process of its own.</summary>
public interface IRunsModels;

/// <summary>What a host gives an activity.</summary>
/// <param name="Store">Where everything is.</param>
/// <param name="Memory">Bounds what activities of one machine hold together.</param>
public sealed record ActivityContext(IArtifactStore Store, MemoryGate Memory)
{
    /// <summary>Where steps for a GPU are sent; null where the host has no such queue and runs them itself.</summary>
    public StepQueue? GpuSteps { get; init; }

    /// <summary>Name of the queue that answers of GPU steps are sent to; null where the host looks for them in the store.</summary>
    public string? GpuAnswers { get; init; }

    /// <summary>Who hears of runs; null for nobody.</summary>
    public EventSender? Events { get; init; }

    /// <summary>
    /// The most memory that this process and those it started held together, in bytes; null where the host does not measure it.
    /// </summary>
    public Func<long>? PeakMemory { get; init; }

    /// <summary>What this process knows of layers.</summary>
    public KnownLayers Layers { get; } = new();

    /// <summary>
    /// Runs an activity within <see cref="Retries.ActivityTimeout"/>; a failure of the network is an <see cref="IOException"/>.
    /// </summary>
    public async Task<TOutput> RunAsync<TActivity, TInput, TOutput>(TInput input, CancellationToken cancellation)
        where TActivity : Activity<TInput, TOutput>
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(Retries.ActivityTimeout);
        try
        {
            return await Activator.CreateInstance<TActivity>().RunAsync(input, this, limit.Token);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new TimeoutException($"{typeof(TActivity).Name} took longer than {Retries.ActivityTimeout.TotalMinutes:0} minutes.", e);
        }
        catch (Exception e) when (e is not IOException and not TimeoutException && Retries.MayPass(e))
        {
            throw new IOException($"The storage did not answer: {e.Message.Split('\n')[0]}", e);
        }
    }
}
