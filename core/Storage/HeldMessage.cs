using Azure.Storage.Queues.Models;

namespace Serverless.Core.Storage;

/// <summary>A message that this process holds: kept hidden from others until it is completed, set aside, or disposed.</summary>
public sealed class HeldMessage : IAsyncDisposable
{
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1),
        Grace = TimeSpan.FromSeconds(5);
    private readonly StepQueue queue;
    private readonly QueueMessage message;
    private readonly Renewal renewal;
    private readonly Lazy<Task> ending;
    private readonly string text;
    private string receipt;
    private bool done;

    internal HeldMessage(StepQueue queue, QueueMessage message, TimeSpan visibility)
    {
        (this.queue, this.message, receipt, text) = (queue, message, message.PopReceipt, message.Body.ToString());
        Body = QueueText.Decode(text) ?? text;
        IsBase64 = QueueText.Decode(text) is not null;
        var interval = visibility / 3;
        renewal = new Renewal(
            async token => receipt = await queue.HideAsync(message, receipt, visibility, token),
            new HoldTimes(visibility, interval, interval < LongestPause ? interval : LongestPause, Grace)
        );
        ending = new Lazy<Task>(EndAsync);
    }

    /// <summary>What it says; the text as it came when that is not Base64.</summary>
    public string Body { get; }

    /// <summary>Whether it is Base64, as Azure Functions and this pipeline send it.</summary>
    public bool IsBase64 { get; }

    /// <summary>How often it was taken, this time included.</summary>
    public long Deliveries => message.DequeueCount;

    /// <summary>Cancelled when another has taken the message, it was deleted, or it could not be renewed in time.</summary>
    public CancellationToken Lost => renewal.Lost;

    /// <summary>Deletes the message.</summary>
    public async Task CompleteAsync(CancellationToken cancellation)
    {
        await renewal.StopAsync();
        await queue.DeleteAsync(message, receipt, cancellation);
        done = true;
    }

    /// <summary>Moves the message to the queue <c>NAME-poison</c>, with the reason; a body that would not fit with it is cut.</summary>
    public async Task SetAsideAsync(string reason, CancellationToken cancellation)
    {
        await queue.Poison.SendAsync(QueueText.Wrap(reason, Deliveries, Body), cancellation);
        await CompleteAsync(cancellation);
    }

    /// <summary>
    /// Stops renewing; a message neither completed nor set aside becomes visible at once, or after its time when the queue cannot
    /// be told in a few seconds. May be called again.
    /// </summary>
    public ValueTask DisposeAsync() => new(ending.Value);

    private async Task EndAsync()
    {
        await renewal.DisposeAsync();
        if (done)
            return;
        using var limit = new CancellationTokenSource(Grace);
        try
        {
            await queue.HideAsync(message, receipt, TimeSpan.Zero, limit.Token);
        }
        catch (Exception)
        {
            // Whatever it was, another holds the message or it becomes visible by itself: no failure of the work.
        }
    }
}
