using System.Text.Json;
using Serverless.Core.Execution;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.GpuJob;

/// <summary>One step from the queue.</summary>
internal static class Job
{
    public static async Task<int> RunAsync(string storage, TimeSpan visibility, long memory, CancellationToken cancellation)
    {
        var spec = StoreSpec.Of(storage);
        var context = new ActivityContext(spec.Open(), new MemoryGate(memory));
        using var process = new ModelProcess(spec, context.Memory);
        var done = await GpuWorker.RunOneAsync(
            StepQueue.Connect(storage, GpuWorker.Steps),
            RunAsync,
            context.Store,
            ExecutionDevice.Name,
            visibility,
            cancellation
        );
        Console.Error.WriteLine(
            done switch
            {
                GpuOutcome.Nothing => "The queue is empty.",
                GpuOutcome.Answered => "One step answered.",
                _ => $"A message was set aside in '{GpuWorker.Steps}-poison'.",
            }
        );
        return 0;

        // On the GPU the model runs in this process, which does nothing else; on a CPU a child keeps it in bounds.
        Task<JsonElement> RunAsync(string name, JsonElement input, CancellationToken token)
        {
            Console.Error.WriteLine($"Running {name}.");
            var activity = ActivityCatalog.All[name];
            return activity.RunsModels && !ExecutionDevice.IsCuda
                ? process.RunAsync(name, input, token)
                : activity.RunAsync(input, context, token);
        }
    }
}
