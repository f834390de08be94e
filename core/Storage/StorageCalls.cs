using Azure;
using Polly;

namespace Serverless.Core.Storage;

/// <summary>Calls to one storage account: retried, and in the end a failure is a sentence (<see cref="StorageFailure"/>).</summary>
/// <param name="network">The retries.</param>
/// <param name="account">The account's endpoint.</param>
internal sealed class StorageCalls(ResiliencePipeline network, Uri account)
{
    /// <summary>Makes a call.</summary>
    /// <param name="call">The call.</param>
    /// <param name="cancellation">Cancels it.</param>
    /// <param name="container">The container or queue it is about, for the sentence.</param>
    /// <param name="mine">Answers that the caller deals with: they come through as they are.</param>
    /// <exception cref="StorageRefusedException">The account refuses.</exception>
    /// <exception cref="IOException">The storage did not answer.</exception>
    public async Task<T> ExecuteAsync<T>(
        Func<CancellationToken, Task<T>> call,
        CancellationToken cancellation,
        string? container = null,
        Func<RequestFailedException, bool>? mine = null
    )
    {
        try
        {
            return await network.ExecuteAsync(async token => await call(token), cancellation);
        }
        catch (Exception e) when (!IsCallers(e) && StorageFailure.Of(e, account, container) is { } failure)
        {
            throw failure;
        }

        bool IsCallers(Exception e) =>
            e is RequestFailedException answer
                ? mine?.Invoke(answer) == true
                : e is OperationCanceledException && cancellation.IsCancellationRequested;
    }
}
