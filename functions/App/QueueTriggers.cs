using Microsoft.Azure.Functions.Worker;
using Microsoft.DurableTask.Client;
using Microsoft.Extensions.Logging;
using Serverless.Core;
using Serverless.Core.Runs;

namespace Serverless.App;

/// <summary>What comes by queue: events of Event Grid, and answers of GPU steps.</summary>
public sealed class QueueTriggers(AppHost host, ILogger<QueueTriggers> logger)
{
    /// <summary>A blob was dropped, or a model was trained again: Event Grid puts its events into the queue <c>events</c>.</summary>
    [Function("OnEvent")]
    public async Task OnEventAsync(
        [QueueTrigger(AppHost.Events, Connection = "SERVERLESS_QUEUES")] string message,
        [DurableClient] DurableTaskClient client,
        CancellationToken cancellation
    )
    {
        try
        {
            var decision = await Intake.OfEventAsync(host.Context.Store, message, cancellation);
            var run = await Runs.CarryOutAsync(client, decision, cancellation);
            if (run is not null)
                logger.Concerns(run);
        }
        catch (BadInputException e)
        {
            // Delivering it again would not make it better.
            logger.PassedOver(e.Message);
        }
    }

    /// <summary>A GPU step was answered.</summary>
    [Function("OnGpuAnswer")]
    public async Task OnGpuAnswerAsync(
        [QueueTrigger(GpuWorker.Answers, Connection = "SERVERLESS_QUEUES")] string message,
        [DurableClient] DurableTaskClient client,
        CancellationToken cancellation
    )
    {
        if (GpuAnswer.Read(message) is { } answer)
            await client.RaiseEventAsync(answer.RunId, answer.Event, message, cancellation);
        else
            logger.PassedOver("it is no answer of a GPU step");
    }
}
