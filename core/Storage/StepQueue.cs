using Azure;
using Azure.Storage.Queues;
using Azure.Storage.Queues.Models;

namespace Serverless.Core.Storage;

/// <summary>
/// A queue in Azure Queue Storage. Bodies are Base64, as Azure Functions reads them; one that is not can be taken all the same.
/// </summary>
public sealed class StepQueue
{
    private const string PoisonEnding = "-poison";
    private readonly QueueServiceClient service;
    private readonly QueueClient queue;
    private readonly StorageCalls calls;

    private StepQueue(QueueServiceClient service, string name, StorageCalls calls)
    {
        (this.service, this.calls, Name) = (service, calls, name);
        queue = service.GetQueueClient(name);
    }

    /// <summary>The queue's name.</summary>
    public string Name { get; }

    /// <summary>The queue <c>NAME-poison</c>, of messages that were set aside.</summary>
    public StepQueue Poison => Sibling(Name + PoisonEnding);

    /// <summary>Connects by account URL with the default Azure credential, or by connection string (for development).</summary>
    /// <param name="storage">The blob or queue endpoint of the account, or a connection string.</param>
    /// <param name="name">The queue.</param>
    /// <param name="options">Of the network.</param>
    /// <exception cref="BadInputException"><paramref name="storage"/> is neither.</exception>
    public static StepQueue Connect(string storage, string name, NetworkOptions? options = null) => Connect(storage, name, options, null);

    /// <summary>Whether a queue may be called so.</summary>
    public static bool IsName(string name) => QueueText.IsName(name);

    /// <summary>Another queue of the same account.</summary>
    public StepQueue Sibling(string name) => new(service, name, calls);

    /// <summary>Creates the queue when it is not there.</summary>
    public async Task EnsureAsync(CancellationToken cancellation) =>
        await calls.ExecuteAsync(token => queue.CreateIfNotExistsAsync(cancellationToken: token), cancellation, Name);

    /// <summary>Sends a message, and makes the queue when it is not there; it may be delivered more than once.</summary>
    /// <exception cref="BadInputException">The body is too large for a message.</exception>
    public async Task SendAsync(string body, CancellationToken cancellation)
    {
        var text = QueueText.Encode(body, Name);
        try
        {
            await calls.ExecuteAsync(token => queue.SendMessageAsync(text, token), cancellation, Name, Absent);
        }
        catch (RequestFailedException e) when (Absent(e))
        {
            await EnsureAsync(cancellation);
            await calls.ExecuteAsync(token => queue.SendMessageAsync(text, token), cancellation, Name);
        }
    }

    /// <summary>Takes a message, hidden from others while it is held; null when there is none.</summary>
    /// <param name="visibility">How long it stays hidden should this process die; renewed at a third of it.</param>
    /// <param name="cancellation">Cancels the call.</param>
    public async Task<HeldMessage?> TryTakeAsync(TimeSpan visibility, CancellationToken cancellation)
    {
        try
        {
            var message = (
                await calls.ExecuteAsync(token => queue.ReceiveMessageAsync(visibility, token), cancellation, Name, Absent)
            ).Value;
            return message is null ? null : new HeldMessage(this, message, visibility);
        }
        catch (RequestFailedException e) when (Absent(e))
        {
            // Nothing was ever sent.
            return null;
        }
    }

    internal static StepQueue Connect(string storage, string name, NetworkOptions? options, Action<QueueClientOptions>? change)
    {
        // The SDK's own decoding would throw on the first message that is not Base64, and never get past it.
        var client = new QueueClientOptions { MessageEncoding = QueueMessageEncoding.None };
        client.Retry.MaxRetries = 0;
        client.Retry.NetworkTimeout = BlobStore.Limitless;
        change?.Invoke(client);
        var service = StorageAccount.Connect(
            storage.Replace(".blob.", ".queue.", StringComparison.OrdinalIgnoreCase),
            (url, credential) => new QueueServiceClient(url, credential, client),
            _ => new QueueServiceClient(storage, client)
        );
        return new StepQueue(service, name, new StorageCalls(NetworkResilience.Build(options ?? new NetworkOptions()), service.Uri));
    }

    internal async Task<string> HideAsync(QueueMessage message, string receipt, TimeSpan visibility, CancellationToken cancellation) =>
        (
            await calls.ExecuteAsync(
                token => queue.UpdateMessageAsync(message.MessageId, receipt, visibilityTimeout: visibility, cancellationToken: token),
                cancellation,
                Name,
                IsAnothers
            )
        )
            .Value
            .PopReceipt;

    internal async Task DeleteAsync(QueueMessage message, string receipt, CancellationToken cancellation)
    {
        try
        {
            await calls.ExecuteAsync(token => queue.DeleteMessageAsync(message.MessageId, receipt, token), cancellation, Name, IsAnothers);
        }
        catch (RequestFailedException e) when (IsAnothers(e))
        {
            // Deleted already, or taken by another after it became visible again: its work is idempotent.
        }
    }

    private static bool Absent(RequestFailedException e) => e.ErrorCode == QueueErrorCode.QueueNotFound;

    // 400 is for a receipt that is not the message's any more.
    private static bool IsAnothers(RequestFailedException e) => e.Status is 400 or 404;
}
