using System.Net.Sockets;
using Azure;
using Azure.Identity;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Queues.Models;
using Polly.CircuitBreaker;
using Polly.Timeout;

namespace Serverless.Core.Storage;

/// <summary>Says in a sentence why a storage account could not be used.</summary>
public static class StorageFailure
{
    /// <summary>
    /// The exception for the user: <see cref="StorageRefusedException"/> for a wrong account or a missing right, <see
    /// cref="IOException"/> for
    /// what may pass.
    /// </summary>
    /// <param name="e">Thrown by the storage client or by the retries around it.</param>
    /// <param name="account">The account's endpoint; shown without its query.</param>
    /// <param name="container">The container or queue, or null.</param>
    /// <returns>Null for what is no failure of the storage.</returns>
    public static IOException? Of(Exception e, Uri account, string? container = null)
    {
        if (e is IOException or BadInputException)
            return null;
        var name = SecretText.Place(account);
        if ((e is RequestFailedException { Status: > 0 } answer ? WhyRefused(answer, container) : WhyRefused(e)) is { } refused)
            return new StorageRefusedException($"{name}: {refused}.", e);
        return WhyNoAnswer(e, container) is { } why ? new IOException($"{name}: {why}.", e) : null;
    }

    private static string? WhyRefused(RequestFailedException e, string? container)
    {
        var code = e.ErrorCode ?? "no reason given";
        if (e.ErrorCode == BlobErrorCode.ContainerNotFound)
            return $"the container '{container}' is not there; create it";
        if (e.ErrorCode == QueueErrorCode.QueueNotFound)
            return $"the queue '{container}' is not there; create it";
        if (e.ErrorCode == BlobErrorCode.AccountIsDisabled || e.ErrorCode == BlobErrorCode.ResourceNotFound)
            return $"the account is not there or disabled ({code}); check its name";
        if (e.ErrorCode == BlobErrorCode.AuthorizationPermissionMismatch || e.ErrorCode == BlobErrorCode.InsufficientAccountPermissions)
            return $"signed in, but without the right to do this ({code}); "
                + "assign the roles 'Storage Blob Data Contributor' and 'Storage Queue Data Contributor' on the account";
        if (
            e.ErrorCode == BlobErrorCode.AuthorizationFailure
            || e.ErrorCode is "AuthorizationSourceIPMismatch" or "PublicAccessNotPermitted"
        )
            return $"the account does not let this machine in ({code}); "
                + "check its key or what its shared access signature allows, and its firewall";
        return e.Status is 401 or 403
            ? $"the account refuses the sign-in ({e.Status} {code}); check the account's name and key, or the "
                + "identity, and this machine's clock"
            : null;
    }

    private static string? WhyRefused(Exception e) =>
        e switch
        {
            CredentialUnavailableException =>
                "nobody is signed in here; sign in with 'az login', give the host a managed identity, or use a connection string",
            AuthenticationFailedException when !NetworkResilience.MayPass(e) =>
                "signing in failed; sign in again with 'az login', or check the AZURE_* variables and the managed identity",
            _ when Cause<SocketException>(e)?.SocketErrorCode is SocketError.HostNotFound or SocketError.NoData =>
                "there is no such host; check the account's name, and the network",
            _ => null,
        };

    private static string? WhyNoAnswer(Exception e, string? container) =>
        e switch
        {
            RequestFailedException { Status: > 0 } answer => NetworkResilience.MayPass(e)
                ? $"the storage is overloaded or down ({answer.Status} {answer.ErrorCode}); try again later"
                : $"the storage refused a call{(container is null ? "" : $" on '{container}'")} ({answer.Status} {answer.ErrorCode})",
            _ when Cause<SocketException>(e) is { } socket =>
                $"the storage cannot be reached ({socket.SocketErrorCode}); check that it runs, and the network",
            TimeoutRejectedException or TimeoutException or OperationCanceledException =>
                "the storage did not answer in time; check the network",
            BrokenCircuitException => "the storage failed most calls, so it was left alone for a while; try again later",
            _ => NetworkResilience.MayPass(e)
                ? $"the storage did not answer ({SecretText.Cut(e.Message.Split('\n')[0]).TrimEnd('.')})"
                : null,
        };

    internal static T? Cause<T>(Exception e)
        where T : Exception
    {
        for (Exception? at = e; at is not null; at = at.InnerException)
        {
            if (at is T found)
                return found;
            if (at is AggregateException many)
                return many.InnerExceptions.Select(Cause<T>).FirstOrDefault(c => c is not null);
        }
        return null;
    }
}
