using Azure;
using Azure.Identity;
using Azure.Storage.Queues;
using Azure.Storage.Queues.Models;
using Polly;

namespace Serverless.Core.Storage;

/// <summary>A queue in Azure Queue Storage. Bodies are Base64, as Azure Functions reads them.</summary>
public sealed class StepQueue
{
    private readonly QueueServiceClient service;
    private readonly QueueClient queue;
    private readonly ResiliencePipeline network;

    private StepQueue(QueueServiceClient service, string name, ResiliencePipeline network)
    {
        (this.service, this.network, Name) = (service, network, name);
        queue = service.GetQueueClient(name);
    }

    /// <summary>The queue's name.</summary>
    public string Name { get; }

    /// <summary>Connects by account URL with <see cref="DefaultAzureCredential"/>, or by connection string (for development).</summary>
    /// <param name="storage">The blob or queue endpoint of the account, or a connection string.</param>
    /// <param name="name">The queue.</param>
    /// <param name="options">Of the network.</param>
    /// <exception cref="BadInputException"><paramref name="storage"/> is neither.</exception>
    public static StepQueue Connect(string storage, string name, NetworkOptions? options = null)
    {
        var client = new QueueClientOptions { MessageEncoding = QueueMessageEncoding.Base64 };
        client.Retry.MaxRetries = 0;
        var network = NetworkResilience.Build(options ?? new NetworkOptions());
        try
        {
            return Uri.TryCreate(storage.Replace(".blob.", ".queue.", StringComparison.OrdinalIgnoreCase), UriKind.Absolute, out var url) && url.Scheme is "https" or "http"
                ? new StepQueue(new QueueServiceClient(url, new DefaultAzureCredential(), client), name, network)
                : new StepQueue(new QueueServiceClient(storage, client), name, network);
        }
        catch (FormatException e)
        {
            throw new BadInputException("storage: neither an account URL (https://NAME.blob.core.windows.net) nor a connection string.", e);
        }
    }

    /// <summary>Another queue of the same account.</summary>
    public StepQueue Sibling(string name) => new(service, name, network);

    /// <summary>Creates the queue when it is not there.</summary>
    public async Task EnsureAsync(CancellationToken cancellation) =>
        await network.ExecuteAsync(async token => await queue.CreateIfNotExistsAsync(cancellationToken: token), cancellation);

    /// <summary>Sends a message, and makes the queue when it is not there; it may be delivered more than once.</summary>
    public async Task SendAsync(string body, CancellationToken cancellation)
    {
        try
        {
            await network.ExecuteAsync(async token => await queue.SendMessageAsync(body, token), cancellation);
        }
        catch (RequestFailedException e) when (e.Status == 404)
        {
            await EnsureAsync(cancellation);
            await network.ExecuteAsync(async token => await queue.SendMessageAsync(body, token), cancellation);
        }
    }

    /// <summary>Takes a message, hidden from others while it is held; null when there is none.</summary>
    /// <param name="visibility">How long it stays hidden should this process die; renewed at a third of it.</param>
    /// <param name="cancellation">Cancels the call.</param>
    public async Task<HeldMessage?> TryTakeAsync(TimeSpan visibility, CancellationToken cancellation)
    {
        try
        {
            var message = (await network.ExecuteAsync(async token => await queue.ReceiveMessageAsync(visibility, token), cancellation)).Value;
            return message is null ? null : new HeldMessage(this, message, visibility);
        }
        catch (RequestFailedException e) when (e.ErrorCode == QueueErrorCode.QueueNotFound)
        {
            // Nothing was ever sent.
            return null;
        }
    }

    internal async Task<string> HideAsync(QueueMessage message, string receipt, TimeSpan visibility, CancellationToken cancellation) =>
        (await network.ExecuteAsync(async token => await queue.UpdateMessageAsync(message.MessageId, receipt, visibilityTimeout: visibility, cancellationToken: token), cancellation)).Value.PopReceipt;

    internal async Task DeleteAsync(QueueMessage message, string receipt, CancellationToken cancellation)
    {
        try
        {
            await network.ExecuteAsync(async token => await queue.DeleteMessageAsync(message.MessageId, receipt, token), cancellation);
        }
        catch (RequestFailedException e) when (e.Status == 404)
        {
            // Deleted already, or taken by another after it became visible again: its work is idempotent.
        }
    }
}
