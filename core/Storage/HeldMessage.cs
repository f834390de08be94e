using System.Text.Json;
using Azure;
using Azure.Storage.Queues.Models;

namespace Serverless.Core.Storage;

/// <summary>A message that this process holds: kept hidden from others until it is completed, set aside, or disposed.</summary>
public sealed class HeldMessage : IAsyncDisposable
{
    private readonly StepQueue queue;
    private readonly QueueMessage message;
    private readonly TimeSpan visibility;
    private readonly CancellationTokenSource stop = new();
    private readonly CancellationTokenSource lost = new();
    private readonly Task renewing;
    private string receipt;
    private bool done;

    internal HeldMessage(StepQueue queue, QueueMessage message, TimeSpan visibility)
    {
        (this.queue, this.message, this.visibility, receipt) = (queue, message, visibility, message.PopReceipt);
        renewing = RenewAsync();
    }

    /// <summary>What it says.</summary>
    public string Body => message.Body.ToString();

    /// <summary>How often it was taken, this time included.</summary>
    public long Deliveries => message.DequeueCount;

    /// <summary>Cancelled when another has taken the message, or it was deleted.</summary>
    public CancellationToken Lost => lost.Token;

    /// <summary>Deletes the message.</summary>
    public async Task CompleteAsync(CancellationToken cancellation)
    {
        await StopAsync();
        await queue.DeleteAsync(message, receipt, cancellation);
        done = true;
    }

    /// <summary>Moves the message to the queue <c>NAME-poison</c>, with the reason.</summary>
    public async Task SetAsideAsync(string reason, CancellationToken cancellation)
    {
        var poison = queue.Sibling(queue.Name + "-poison");
        await poison.SendAsync(JsonSerializer.Serialize(new { reason, deliveries = Deliveries, message = Body }, Json.Options), cancellation);
        await CompleteAsync(cancellation);
    }

    /// <summary>Stops renewing; a message neither completed nor set aside becomes visible at once.</summary>
    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        if (!done)
        {
            try
            {
                await queue.HideAsync(message, receipt, TimeSpan.Zero, CancellationToken.None);
            }
            catch (RequestFailedException e) when (e.Status is 400 or 404)
            {
                // Another holds it already.
            }
        }
        stop.Dispose();
        lost.Dispose();
    }

    private async Task StopAsync()
    {
        await stop.CancelAsync();
        await renewing;
    }

    private async Task RenewAsync()
    {
        try
        {
            while (true)
            {
                await Task.Delay(visibility / 3, stop.Token);
                receipt = await queue.HideAsync(message, receipt, visibility, stop.Token);
            }
        }
        catch (OperationCanceledException)
        {
            // Stopped.
        }
        catch (Exception e) when (e is RequestFailedException or IOException)
        {
            await lost.CancelAsync();
        }
    }
}
