using System.Collections.Concurrent;
using System.Net.Sockets;
using Azure;
using Azure.Core;
using Azure.Identity;
using Azure.Storage.Blobs;
using Microsoft.Extensions.Logging;
using Polly.CircuitBreaker;
using Polly.Timeout;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>What is said when a storage account cannot be used.</summary>
public class StorageFailureTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly CancellationToken None = CancellationToken.None;
    private static readonly Uri Account = new("https://models.blob.core.windows.net/?sv=1&sig=s3cret");
    private static readonly NetworkOptions Quick = new()
    {
        MaxAttempts = 2,
        FirstPause = TimeSpan.FromMilliseconds(1),
        LongestPause = TimeSpan.FromMilliseconds(2),
        AttemptTimeout = TimeSpan.FromMilliseconds(300),
    };

    public static TheoryData<string, Exception, bool> Failures =>
        new()
        {
            { "key", new RequestFailedException(403, "Server failed to authenticate", "AuthenticationFailed", null), true },
            { "sign-in", new RequestFailedException(401, "No", null, null), true },
            { "roles", new RequestFailedException(403, "This request is not authorized", "AuthorizationPermissionMismatch", null), true },
            { "firewall", new RequestFailedException(403, "This request is not authorized", "AuthorizationFailure", null), true },
            {
                "'drop' is not there; create it",
                new RequestFailedException(404, "The specified container does not exist", "ContainerNotFound", null),
                true
            },
            { "disabled", new RequestFailedException(403, "x", "AccountIsDisabled", null), true },
            { "az login", new CredentialUnavailableException("DefaultAzureCredential failed to retrieve a token"), true },
            { "az login", new AuthenticationFailedException("AADSTS70043: The refresh token has expired."), true },
            { "did not answer", new AuthenticationFailedException("x", new HttpRequestException("The connection was cut.")), false },
            {
                "no such host",
                new RequestFailedException(0, "x", null, new HttpRequestException("x", new SocketException((int)SocketError.HostNotFound))),
                true
            },
            { "TryAgain", new HttpRequestException("x", new SocketException((int)SocketError.TryAgain)), false },
            {
                "ConnectionRefused",
                new AggregateException(
                    new RequestFailedException(
                        0,
                        "x",
                        null,
                        new HttpRequestException("x", new SocketException((int)SocketError.ConnectionRefused))
                    )
                ),
                false
            },
            { "in time", new TimeoutRejectedException("x"), false },
            {
                "in time",
                new TaskCanceledException("The operation was cancelled because it exceeded the configured timeout of 0:01:40."),
                false
            },
            { "left alone", new BrokenCircuitException("x"), false },
            { "503 ServerBusy", new RequestFailedException(503, "x", "ServerBusy", null), false },
            { "400 InvalidInput", new RequestFailedException(400, "x", "InvalidInput", null), false },
        };

    [Theory]
    [MemberData(nameof(Failures), DisableDiscoveryEnumeration = true)]
    public void A_failure_is_a_sentence_that_tells_the_wrong_account_from_what_may_pass(string says, Exception thrown, bool refused)
    {
        var said = StorageFailure.Of(thrown, Account, "drop")!;
        Assert.Contains(says, said.Message);
        Assert.StartsWith("https://models.blob.core.windows.net: ", said.Message);
        Assert.DoesNotContain("s3cret", said.Message);
        Assert.DoesNotContain('\n', said.Message);
        Assert.Equal(refused, said is StorageRefusedException);
    }

    [Fact]
    public async Task Stores_and_queues_say_it()
    {
        var wrongKey = azurite.ConnectionString.Replace("AccountKey=Eby8", "AccountKey=Fby8", StringComparison.Ordinal);
        var store = new BlobStore(new BlobServiceClient(wrongKey, BlobStore.ClientOptions()), Quick);
        Assert.Contains(
            "key",
            (await Assert.ThrowsAsync<StorageRefusedException>(() => store.EnsureContainersAsync(["drop"], None))).Message
        );
        Assert.Contains(
            "key",
            (await Assert.ThrowsAsync<StorageRefusedException>(() => store.WriteBytesAsync("drop/x", new byte[1], None))).Message
        );
        Assert.Contains("key", (await Assert.ThrowsAsync<StorageRefusedException>(() => store.FindAsync("drop/x", None))).Message);
        Assert.Contains(
            "key",
            (
                await Assert.ThrowsAsync<StorageRefusedException>(() =>
                    StepQueue.Connect(wrongKey, "steps", Quick).TryTakeAsync(TimeSpan.FromSeconds(5), None)
                )
            ).Message
        );
        Assert.Contains(
            "'nowhere'",
            (
                await Assert.ThrowsAsync<StorageRefusedException>(() =>
                    azurite.Store(network: Quick).WriteBytesAsync("nowhere/x", new byte[1], None)
                )
            ).Message
        );
        var down = new BlobServiceClient(
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=AAAA;BlobEndpoint=http://127.0.0.1:9/a;",
            BlobStore.ClientOptions()
        );
        Assert.Contains(
            "cannot be reached",
            (await Assert.ThrowsAsync<IOException>(() => new BlobStore(down, Quick).FindAsync("drop/x", None))).Message
        );
        var cancelled = new CancellationToken(canceled: true);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => store.FindAsync("drop/x", cancelled));
    }

    [Fact]
    public async Task A_client_that_gives_up_by_itself_is_tried_again()
    {
        var calls = 0;
        var store = azurite.Store(
            o =>
                o.AddPolicy(
                    new Intercept(_ => calls++ == 0 ? throw new TaskCanceledException("the client's own time limit") : Task.CompletedTask),
                    HttpPipelinePosition.PerRetry
                ),
            Quick
        );
        Assert.Null(await store.FindAsync("none/x", None));
        Assert.Equal(2, calls);
    }

    [Theory]
    [InlineData("http://models.blob.core.windows.net")]
    [InlineData("https://models.blob.core.windows.net/?sv=1&sig=s3cret")]
    [InlineData("https://user:s3cret@models.blob.core.windows.net")]
    [InlineData("AccountName=models;AccountKey=s3cret!")]
    [InlineData("BlobEndpoint=https://models.blob.core.windows.net;SharedAccessSignature")]
    [InlineData("s3cret")]
    [InlineData("")]
    public void What_names_no_account_is_said_without_what_it_holds(string storage)
    {
        foreach (var connect in new Action[] { () => BlobStore.Connect(storage), () => StepQueue.Connect(storage, "steps") })
        {
            var said = Assert.Throws<BadInputException>(connect).Message;
            Assert.StartsWith("--storage: ", said);
            Assert.DoesNotContain("s3cret", said);
        }
    }

    [Theory]
    [InlineData("GET https://u:p@a.b:8080/c/d?x=1#f failed", "GET https://a.b:8080/c/d?… failed")]
    [InlineData("'http://a.b/c?sig=1'", "'http://a.b/c?…'")]
    [InlineData("AccountName=n;AccountKey=abc==;EndpointSuffix=x", "AccountName=n;AccountKey=…;EndpointSuffix=x")]
    [InlineData("SharedAccessSignature=sv=1&sig=2;X=y", "SharedAccessSignature=…;X=y")]
    [InlineData("the query sv=1&sig=abc%3D&se=3", "the query sv=1&sig=…&se=3")]
    [InlineData("https://u:p@ss@a.b/", "https://a.b/")]
    [InlineData("drop/x.onnx: nothing secret: a=b", "drop/x.onnx: nothing secret: a=b")]
    public void Secrets_are_cut_out_of_a_text(string text, string cut) => Assert.Equal(cut, SecretText.Cut(text));

    [Fact]
    public async Task Retries_are_logged_without_secrets()
    {
        var logs = new Logs();
        var pipeline = NetworkResilience.Build(Quick with { Logs = logs });
        await Assert.ThrowsAsync<HttpRequestException>(async () =>
            await pipeline.ExecuteAsync<int>(_ => throw new HttpRequestException("https://u:s3cret@a.b/c?sig=s3cret was cut"), None)
        );
        Assert.NotEmpty(logs.Lines);
        Assert.Contains(logs.Lines, l => l.Contains("https://a.b/c?… was cut", StringComparison.Ordinal));
        Assert.All(logs.Lines, l => Assert.DoesNotContain("s3cret", l));
    }

    private sealed class Logs : ILoggerFactory, ILogger
    {
        public ConcurrentQueue<string> Lines { get; } = [];

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter
        )
        {
            var fields = state is IEnumerable<KeyValuePair<string, object?>> pairs ? string.Join(' ', pairs) : "";
            Lines.Enqueue($"{formatter(state, exception)} {exception} {fields}");
        }

        public void Dispose() { }
    }
}
