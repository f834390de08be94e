using System.Net.Sockets;
using Azure;
using Azure.Identity;
using Azure.Storage.Blobs.Models;
using Polly.CircuitBreaker;
using Polly.Timeout;

namespace Serverless.Core.Storage;

/// <summary>Says in a sentence why a storage account could not be used.</summary>
public static class StorageFailure
{
    /// <summary>The exception for the user: <see cref="StorageRefusedException"/> for a wrong account or a missing right, <see cref="IOException"/> for what may pass.</summary>
    /// <param name="e">Thrown by the storage client or by the retries around it.</param>
    /// <param name="account">The account's endpoint; shown without its query.</param>
    /// <param name="container">The container or queue, or null.</param>
    /// <returns>Null for what is no failure of the storage.</returns>
    public static IOException? Of(Exception e, Uri account, string? container = null)
    {
        var name = SecretText.Place(account);
        return e switch
        {
            IOException or BadInputException => null,
            RequestFailedException { Status: > 0 } failed => OfStatus(failed, name, container),
            CredentialUnavailableException => new StorageRefusedException($"{name}: nobody is signed in here; sign in with 'az login', give the host a managed identity, or use a connection string.", e),
            AuthenticationFailedException when !NetworkResilience.MayPass(e) =>
                new StorageRefusedException($"{name}: signing in failed; sign in again with 'az login', or check the AZURE_* variables and the managed identity.", e),
            _ => OfNetwork(e, name),
        };
    }

    private static IOException OfStatus(RequestFailedException e, string name, string? container)
    {
        var code = e.ErrorCode ?? "no reason given";
        if (e.ErrorCode == BlobErrorCode.AccountIsDisabled || e.ErrorCode == BlobErrorCode.ResourceNotFound)
            return new StorageRefusedException($"{name}: the account is not there or disabled ({code}); check its name.", e);
        if (e.ErrorCode == BlobErrorCode.AuthorizationPermissionMismatch || e.ErrorCode == BlobErrorCode.InsufficientAccountPermissions)
            return new StorageRefusedException($"{name}: signed in, but without the right to do this ({code}); assign the roles 'Storage Blob Data Contributor' and 'Storage Queue Data Contributor' on the account.", e);
        if (e.ErrorCode == BlobErrorCode.AuthorizationFailure || e.ErrorCode == "AuthorizationSourceIPMismatch" || e.ErrorCode == "PublicAccessNotPermitted")
            return new StorageRefusedException($"{name}: the account does not let this machine in ({code}); check its key or what its shared access signature allows, and its firewall.", e);
        if (e.Status is 401 or 403)
            return new StorageRefusedException($"{name}: the account refuses the sign-in ({e.Status} {code}); check the account's name and key, or the identity, and this machine's clock.", e);
        if (e.ErrorCode == BlobErrorCode.ContainerNotFound || e.ErrorCode == "QueueNotFound")
            return new StorageRefusedException($"{name}: the {(e.ErrorCode == "QueueNotFound" ? "queue" : "container")} '{container}' is not there; create it.", e);
        return NetworkResilience.MayPass(e)
            ? new IOException($"{name}: the storage is overloaded or down ({e.Status} {code}); try again later.", e)
            : new IOException($"{name}: the storage refused a call{(container is null ? "" : $" on '{container}'")} ({e.Status} {code}).", e);
    }

    private static IOException? OfNetwork(Exception e, string name)
    {
        if (Cause<SocketException>(e) is { } socket)
        {
            if (socket.SocketErrorCode is SocketError.HostNotFound or SocketError.NoData)
                return new StorageRefusedException($"{name}: there is no such host; check the account's name, and the network.", e);
            return new IOException($"{name}: the storage cannot be reached ({socket.SocketErrorCode}); check that it runs, and the network.", e);
        }
        return e switch
        {
            TimeoutRejectedException or TimeoutException or OperationCanceledException => new IOException($"{name}: the storage did not answer in time; check the network.", e),
            BrokenCircuitException => new IOException($"{name}: the storage failed most calls, so it was left alone for a while; try again later.", e),
            _ => NetworkResilience.MayPass(e) ? new IOException($"{name}: the storage did not answer ({SecretText.Cut(e.Message.Split('\n')[0]).TrimEnd('.')}).", e) : null,
        };
    }

    internal static T? Cause<T>(Exception e) where T : Exception
    {
        for (Exception? at = e; at is not null; at = at.InnerException)
        {
            if (at is T found) return found;
            if (at is AggregateException many) return many.InnerExceptions.Select(Cause<T>).FirstOrDefault(c => c is not null);
        }
        return null;
    }
}
