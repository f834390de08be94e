using System.Globalization;
using System.Net.Http.Headers;
using System.Text.Json;
using Azure.Core;
using Azure.Identity;
using Azure.Messaging.EventGrid;
using Polly;
using Serverless.Core.Storage;

namespace Serverless.Core.Events;

/// <summary>Tells runs' events to an Event Grid topic and to webhooks. What is told twice carries the same id.</summary>
public sealed class EventSender : IDisposable
{
    private readonly EventSettings settings;
    private readonly EventGridPublisherClient? topic;
    private readonly HttpClient http;
    private readonly ResiliencePipeline network;

    /// <summary>Prepares the sender.</summary>
    /// <param name="settings">Who hears.</param>
    /// <param name="options">Of the network.</param>
    public EventSender(EventSettings settings, NetworkOptions? options = null)
    {
        this.settings = settings;
        network = NetworkResilience.Build(options ?? new NetworkOptions { AttemptTimeout = TimeSpan.FromSeconds(20) }, name: "events");
        var client = new EventGridPublisherClientOptions { Retry = { MaxRetries = 0, Mode = RetryMode.Fixed } };
        topic = settings.Topic is { } t ? new EventGridPublisherClient(t, new DefaultAzureCredential(), client) : null;
        var handler = new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false };
        if (!settings.AllowPrivate)
            handler.ConnectCallback = PublicAddress.ConnectAsync;
        http = new HttpClient(handler);
    }

    /// <summary>The sender of the process's environment; null when nobody listens.</summary>
    /// <exception cref="BadInputException">A setting makes no sense.</exception>
    public static EventSender? FromEnvironment()
    {
        var settings = EventSettings.Read(Environment.GetEnvironmentVariable);
        return settings.Topic is null && settings.Webhooks.Count == 0 ? null : new EventSender(settings);
    }

    /// <summary>Tells an event to everybody; one listener that fails does not keep it from the others.</summary>
    /// <returns>What went wrong, a sentence for each listener that was not reached.</returns>
    public async Task<IReadOnlyList<string>> SendAsync(RunEvent happened, CancellationToken cancellation)
    {
        var told = happened.ToCloudEvent();
        var body = JsonSerializer.SerializeToUtf8Bytes(told);
        var failures = new List<string>();
        if (topic is not null)
            await TryAsync(settings.Topic!, async token => await topic.SendEventAsync(told, token));
        foreach (var hook in settings.Webhooks)
            await TryAsync(hook, async token => await PostAsync(hook, body, token));
        return failures;

        async Task TryAsync(Uri to, Func<CancellationToken, ValueTask> send)
        {
            try
            {
                await network.ExecuteAsync(send, cancellation);
            }
            catch (Exception e) when (e is not OperationCanceledException || !cancellation.IsCancellationRequested)
            {
                var why = StorageFailure.Cause<BadInputException>(e)?.Message ?? e.Message.Split('\n')[0];
                failures.Add($"{SecretText.Host(to)} was not told of {happened.Type}: {SecretText.Cut(why)}");
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => http.Dispose();

    // The timestamp is of the attempt, so that a retry is inside the receiver's window.
    private async ValueTask PostAsync(Uri to, byte[] body, CancellationToken cancellation)
    {
        var timestamp = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        using var request = new HttpRequestMessage(HttpMethod.Post, to) { Content = new ByteArrayContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/cloudevents+json") { CharSet = "utf-8" };
        request.Headers.Add(WebhookSignature.TimestampHeader, timestamp.ToString(CultureInfo.InvariantCulture));
        request.Headers.Add(WebhookSignature.SignatureHeader, WebhookSignature.Sign(settings.Secret, timestamp, body));
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation);
        if ((int)response.StatusCode is 408 or 429 or >= 500)
            throw new HttpRequestException($"it answered {(int)response.StatusCode}");
        if (!response.IsSuccessStatusCode)
            throw new InvalidOperationException($"it answered {(int)response.StatusCode}");
    }
}
