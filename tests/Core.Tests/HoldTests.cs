using Azure;
using Azure.Core;
using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Specialized;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Leases and held messages while the network fails: nothing of it becomes a failure of the work.</summary>
public class HoldTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;
    private static readonly HoldTimes Times = new(
        TimeSpan.FromMilliseconds(600),
        TimeSpan.FromMilliseconds(50),
        TimeSpan.FromMilliseconds(20),
        TimeSpan.FromMilliseconds(300)
    );

    // Few calls break the circuit, and an attempt that hangs is given up soon.
    private static readonly NetworkOptions Quick = new()
    {
        MaxAttempts = 2,
        FirstPause = TimeSpan.FromMilliseconds(1),
        LongestPause = TimeSpan.FromMilliseconds(2),
        AttemptTimeout = TimeSpan.FromMilliseconds(300),
    };

    private static readonly HoldTimes LongerTimes = Times with { Duration = TimeSpan.FromSeconds(4) };
    private static readonly NetworkOptions Patient = Quick with { AttemptTimeout = TimeSpan.FromSeconds(3) };

    [Theory]
    [InlineData("cut")]
    [InlineData("throttled")]
    [InlineData("hangs")]
    [InlineData("odd")]
    [InlineData("forbidden")]
    public async Task A_lease_that_cannot_be_renewed_is_lost_and_disposing_it_says_nothing(string failure)
    {
        var failing = false;
        var lease = await LeaseAsync($"{failure}.lock", () => failing ? failure : null);
        Assert.False(lease.Lost.IsCancellationRequested);
        failing = true;
        await CancelledAsync(lease.Lost);
        await lease.DisposeAsync();
        await lease.DisposeAsync();
        Assert.True(lease.Lost.IsCancellationRequested);
    }

    [Fact]
    public async Task A_lease_outlives_failures_that_pass_before_its_time_is_over()
    {
        const int Failures = 3;
        var (failing, calls) = (false, 0);
        var lease = await LeaseAsync(
            "passing.lock",
            () =>
                !failing || calls++ >= Failures ? null
                : calls % 2 == 0 ? "cut"
                : "odd",
            LongerTimes,
            Patient
        );
        failing = true;
        while (calls <= Failures && !lease.Lost.IsCancellationRequested)
            await Task.Delay(10, None);
        Assert.False(lease.Lost.IsCancellationRequested);
        await Task.WhenAll(lease.DisposeAsync().AsTask(), lease.DisposeAsync().AsTask());
        // It was given back: another has it at once.
        var next = await LeaseAsync("passing.lock", () => null, LongerTimes, Patient);
        Assert.False(next.Waited);
        await next.DisposeAsync();
    }

    [Theory]
    [InlineData("cut")]
    [InlineData("throttled")]
    [InlineData("hangs")]
    [InlineData("odd")]
    [InlineData("forbidden")]
    public async Task A_message_that_cannot_be_renewed_is_lost_and_disposing_it_says_nothing(string failure)
    {
        var failing = false;
        var queue = Queue($"lost-{failure}", () => failing ? failure : null);
        await queue.SendAsync("work", None);
        var held = (await queue.TryTakeAsync(TimeSpan.FromSeconds(1), None))!;
        failing = true;
        await CancelledAsync(held.Lost);
        await held.DisposeAsync();
        await held.DisposeAsync();
    }

    [Fact]
    public async Task A_message_outlives_failures_that_pass_and_one_taken_by_another_is_lost()
    {
        var until = DateTime.MaxValue;
        var queue = Queue("passing", () => until == DateTime.MaxValue || DateTime.UtcNow >= until ? null : "cut", Patient);
        await queue.SendAsync("work", None);
        await using (var held = await queue.TryTakeAsync(TimeSpan.FromSeconds(6), None))
        {
            until = DateTime.UtcNow.AddMilliseconds(3600);
            await Task.Delay(7500, None);
            Assert.False(held!.Lost.IsCancellationRequested);
            Assert.Null(await queue.TryTakeAsync(TimeSpan.FromSeconds(6), None));
            await held.CompleteAsync(None);
        }
        Assert.Null(await queue.TryTakeAsync(TimeSpan.FromSeconds(6), None));
        await queue.SendAsync("gone", None);
        await using var gone = await queue.TryTakeAsync(TimeSpan.FromSeconds(1), None);
        await new Azure.Storage.Queues.QueueClient(azurite.ConnectionString, "passing").ClearMessagesAsync(None);
        await CancelledAsync(gone!.Lost);
    }

    [Theory]
    [InlineData("not base64!", "not base64!", false)]
    [InlineData("Z2FucyBub3JtYWw=", "gans normal", true)]
    [InlineData("/w==", "\ufffd", true)]
    public async Task A_message_that_is_not_base64_is_taken_as_it_is(string text, string body, bool isBase64)
    {
        var name = $"raw-{text.Length}";
        var client = new Azure.Storage.Queues.QueueClient(azurite.ConnectionString, name);
        await client.CreateIfNotExistsAsync(cancellationToken: None);
        await client.SendMessageAsync(text, None);
        var queue = Queue(name, () => null, Patient);
        await using var held = await queue.TryTakeAsync(TimeSpan.FromSeconds(10), None);
        Assert.Equal((body, isBase64), (held!.Body, held.IsBase64));
        await held.SetAsideAsync("odd", None);
        await using var poison = await queue.Poison.TryTakeAsync(TimeSpan.FromSeconds(10), None);
        Assert.Contains("odd", poison!.Body);
        // As Azure Functions reads it.
        var functions = new Azure.Storage.Queues.QueueClient(
            azurite.ConnectionString,
            $"{name}-poison",
            new Azure.Storage.Queues.QueueClientOptions { MessageEncoding = Azure.Storage.Queues.QueueMessageEncoding.Base64 }
        );
        await poison.DisposeAsync();
        Assert.Contains("odd", (await functions.PeekMessageAsync(None)).Value.Body.ToString());
    }

    [Theory]
    [InlineData('x', 65536)]
    [InlineData('"', 49152)]
    [InlineData('ä', 24576)]
    [InlineData('\u0001', 49152)]
    [InlineData('x', 10)]
    public void A_message_that_is_set_aside_fits_and_says_what_is_cut(char of, int length)
    {
        var text = QueueText.Wrap(new string('r', 5000), 6, new string(of, length));
        Assert.InRange(System.Text.Encoding.UTF8.GetByteCount(text), length / 7, QueueText.Largest);
        var wrapped = System.Text.Json.JsonDocument.Parse(text).RootElement;
        Assert.Equal(
            length > 10,
            wrapped.GetProperty("note").GetString()?.Contains($"of {length} characters", StringComparison.Ordinal) ?? false
        );
        Assert.All(wrapped.GetProperty("message").GetString()!, c => Assert.Equal(of, c));
        QueueText.Encode(text, "q");
    }

    private async Task<BlobLease> LeaseAsync(string name, Func<string?> failure, HoldTimes? times = null, NetworkOptions? network = null)
    {
        var options = BlobStore.ClientOptions();
        // The service leases for 15 seconds at least; the client of the test counts on less.
        options.AddPolicy(
            new Intercept(m =>
            {
                if (m.Request.Headers.Contains("x-ms-lease-duration"))
                    m.Request.Headers.SetValue("x-ms-lease-duration", "15");
                return Task.CompletedTask;
            }),
            HttpPipelinePosition.PerCall
        );
        options.AddPolicy(new Intercept(m => FailAsync(failure(), m.CancellationToken)), HttpPipelinePosition.PerRetry);
        var service = new BlobServiceClient(azurite.ConnectionString, options);
        var store = new BlobStore(service, Patient);
        await store.EnsureContainersAsync(["leases"], None);
        await store.TryCreateAsync($"leases/{name}", ReadOnlyMemory<byte>.Empty, None);
        var calls = new StorageCalls(NetworkResilience.Build(network ?? Quick), service.Uri);
        return await BlobLease.TakeAsync(
            service.GetBlobContainerClient("leases").GetBlockBlobClient(name),
            calls,
            () => { },
            None,
            times ?? Times
        );
    }

    private StepQueue Queue(string name, Func<string?> failure, NetworkOptions? network = null) =>
        StepQueue.Connect(
            azurite.ConnectionString,
            name,
            network ?? Quick,
            o => o.AddPolicy(new Intercept(m => FailAsync(failure(), m.CancellationToken)), HttpPipelinePosition.PerRetry)
        );

    private static async Task FailAsync(string? failure, CancellationToken cancellation)
    {
        if (failure is null)
            return;
        if (failure == "hangs")
            await Task.Delay(Timeout.Infinite, cancellation);
        throw failure switch
        {
            "cut" => new HttpRequestException("The connection was cut."),
            "throttled" => new AggregateException(new IOException(), new RequestFailedException(503, "Server Busy")),
            "forbidden" => new RequestFailedException(403, "This request is not authorized."),
            _ => new InvalidOperationException("What nobody thought of."),
        };
    }

    private static async Task CancelledAsync(CancellationToken token)
    {
        for (var end = DateTime.UtcNow.AddSeconds(10); !token.IsCancellationRequested; await Task.Delay(10, None))
            Assert.True(DateTime.UtcNow < end, "not lost after 10 s");
    }
}
