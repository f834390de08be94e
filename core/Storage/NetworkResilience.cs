using Azure;
using Azure.Identity;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Polly;
using Polly.CircuitBreaker;
using Polly.Retry;
using Polly.Timeout;

namespace Serverless.Core.Storage;

/// <summary>How often and how long calls over the network are tried. The SDK's own retries are switched off for it.</summary>
public sealed record NetworkOptions
{
    /// <summary>Attempts in all; default 8, at least 1.</summary>
    public int MaxAttempts { get; init; } = 8;

    /// <summary>Pause before the second attempt, doubled with jitter for each after it; default 200 ms.</summary>
    public TimeSpan FirstPause { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Longest pause; default 10 s.</summary>
    public TimeSpan LongestPause { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Limit of one attempt; default 100 s, enough for one block on a slow line.</summary>
    public TimeSpan AttemptTimeout { get; init; } = TimeSpan.FromSeconds(100);

    /// <summary>How long calls are refused once most of them fail; default 5 s.</summary>
    public TimeSpan BreakDuration { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Receives retries, breaks and timeouts as log lines; metrics go to the meter <c>Polly</c> either way.</summary>
    public ILoggerFactory Logs { get; init; } = NullLoggerFactory.Instance;
}

/// <summary>Retry with jitter around a circuit breaker around a timeout, for calls to a storage service.</summary>
public static class NetworkResilience
{
    private const double MostlyFailing = 0.9;
    private const int FewestCalls = 20;

    /// <summary>Builds the pipeline.</summary>
    public static ResiliencePipeline Build(NetworkOptions options, TimeProvider? time = null, string name = "storage")
    {
        return new ResiliencePipelineBuilder { Name = name, TimeProvider = time }
            .AddRetry(
                new RetryStrategyOptions
                {
                    MaxRetryAttempts = Math.Max(1, options.MaxAttempts - 1),
                    Delay = options.FirstPause,
                    MaxDelay = options.LongestPause,
                    BackoffType = DelayBackoffType.Exponential,
                    UseJitter = true,
                    ShouldHandle = args =>
                        ValueTask.FromResult(
                            MayPass(args.Outcome.Exception, args.Context) || args.Outcome.Exception is BrokenCircuitException
                        ),
                }
            )
            .AddCircuitBreaker(
                new CircuitBreakerStrategyOptions
                {
                    FailureRatio = MostlyFailing,
                    MinimumThroughput = FewestCalls,
                    BreakDuration = options.BreakDuration,
                    ShouldHandle = args => ValueTask.FromResult(MayPass(args.Outcome.Exception, args.Context)),
                }
            )
            .AddTimeout(new TimeoutStrategyOptions { Timeout = options.AttemptTimeout })
            .ConfigureTelemetry(new CutLogs(options.Logs))
            .Build();
    }

    /// <summary>Whether trying again can help: throttling, server errors, timeouts and cut connections.</summary>
    public static bool MayPass(Exception e) =>
        e switch
        {
            RequestFailedException { Status: 0 or 408 or 429 or (>= 500 and not 501) } => true,
            // A webhook into a private network stays there.
            HttpRequestException { InnerException: BadInputException } => false,
            TimeoutRejectedException or IOException or HttpRequestException or TimeoutException => true,
            // Where there is a managed identity, its endpoint may be late.
            CredentialUnavailableException => Environment.GetEnvironmentVariable("IDENTITY_ENDPOINT") is { Length: > 0 },
            AuthenticationFailedException { InnerException: { } inner } => StorageFailure.Cause<HttpRequestException>(inner) is not null
                || StorageFailure.Cause<IOException>(inner) is not null
                || StorageFailure.Cause<RequestFailedException>(inner) is { } answer && MayPass(answer),
            AggregateException a => a.InnerExceptions.All(MayPass),
            _ => false,
        };

    // A client's own time limit is a cancellation that nobody asked for.
    private static bool MayPass(Exception? e, ResilienceContext context) =>
        e is not null && (MayPass(e) || (e is OperationCanceledException && !context.CancellationToken.IsCancellationRequested));
}
