using Microsoft.Azure.Functions.Worker;
using Microsoft.Extensions.Logging;
using Serverless.Core;
using Serverless.Core.Events;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.App;

/// <summary>What this host gives to the pipeline.</summary>
/// <param name="Context">What activities get.</param>
/// <param name="Models">Runs models in processes of their own; null runs them here.</param>
/// <param name="HookSecret">The secret that hooks are signed with.</param>
public sealed record AppHost(ActivityContext Context, ModelProcess? Models, string HookSecret)
{
    private const long DefaultMemory = 1L << 30;
    private static readonly string[] Queues = [Events, GpuWorker.Steps, GpuWorker.Answers];

    /// <summary>The queue of events of drops and retrained models.</summary>
    public const string Events = "events";

    /// <summary>Runs that were cancelled, whose activities end.</summary>
    public CancelledRuns Cancelled { get; } = new(Context.Store);

    /// <summary>
    /// Reads <c>SERVERLESS_STORAGE</c> (account URL), <c>SERVERLESS_MEMORY_MB</c>, and the settings of <see cref="EventSettings"/>.
    /// </summary>
    /// <exception cref="BadInputException">A setting is missing or makes no sense.</exception>
    public static AppHost FromEnvironment(ILoggerFactory logs)
    {
        var storage = Environment.GetEnvironmentVariable("SERVERLESS_STORAGE") is { Length: > 0 } s
            ? s
            : throw new BadInputException("SERVERLESS_STORAGE: not set; give the URL of the storage account that models are dropped into.");
        var memory =
            long.TryParse(Environment.GetEnvironmentVariable("SERVERLESS_MEMORY_MB"), out var mb) && mb > 0 ? mb << 20 : DefaultMemory;
        var network = new NetworkOptions { Logs = logs };
        var context = new ActivityContext(BlobStore.Connect(storage, network), new MemoryGate(memory))
        {
            GpuSteps = StepQueue.Connect(storage, GpuWorker.Steps, network),
            GpuAnswers = GpuWorker.Answers,
            Events = EventSender.FromEnvironment(),
        };
        return new AppHost(
            context,
            new ModelProcess(StoreSpec.Of(storage), context.Memory),
            Environment.GetEnvironmentVariable("SERVERLESS_HOOK_SECRET") ?? ""
        );
    }

    /// <summary>Says nothing of the secret.</summary>
    public override string ToString() => nameof(AppHost);

    /// <summary>Makes the containers and queues that are not there, so that an empty account is enough.</summary>
    public async Task PrepareAsync(CancellationToken cancellation)
    {
        if (Context.Store is not BlobStore store)
            return;
        await store.EnsureContainersAsync([.. RunPaths.Containers, "retrained"], cancellation);
        foreach (var queue in Context.GpuSteps is { } steps ? Queues.Select(steps.Sibling) : [])
        {
            await queue.EnsureAsync(cancellation);
            await queue.Poison.EnsureAsync(cancellation);
        }
    }

    /// <summary>Runs an activity until its run is cancelled, in a process of its own when it runs models.</summary>
    public Task<TOutput> RunAsync<TActivity, TInput, TOutput>(TInput input, FunctionContext function)
        where TActivity : Activity<TInput, TOutput> =>
        Cancelled.RunAsync(
            function.BindingContext.BindingData.TryGetValue("instanceId", out var id) && id is string orchestration
                ? CompressLayers.RunOf(orchestration)
                : null,
            token =>
                Models is not null && typeof(TActivity).IsAssignableTo(typeof(IRunsModels))
                    ? Models.RunAsync<TInput, TOutput>(typeof(TActivity).Name, input, token)
                    : Context.RunAsync<TActivity, TInput, TOutput>(input, token),
            function.CancellationToken
        );
}
