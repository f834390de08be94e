using Azure.Core;
using Azure.Identity;

namespace Serverless.Core.Storage;

/// <summary>How an account is named: by its URL, or by a connection string.</summary>
internal static class StorageAccount
{
    /// <summary>Connects by account URL with <see cref="DefaultAzureCredential"/>, or by connection string.</summary>
    /// <param name="storage">The account; never shown, since it may hold a key.</param>
    /// <param name="byUrl">Connects by URL.</param>
    /// <param name="byString">Connects by connection string.</param>
    /// <exception cref="BadInputException"><paramref name="storage"/> is neither.</exception>
    public static T Connect<T>(string storage, Func<Uri, TokenCredential, T> byUrl, Func<string, T> byString)
    {
        try
        {
            if (!Uri.TryCreate(storage, UriKind.Absolute, out var url) || url.Scheme is not ("https" or "http"))
                return byString(storage);
            if (url.Query.Length > 0 || url.UserInfo.Length > 0)
                throw new BadInputException(
                    $"--storage: the URL of {SecretText.Host(url)} carries a secret; give it without a query and sign in, "
                        + "or put the signature into a connection string (BlobEndpoint=…;QueueEndpoint=…;SharedAccessSignature=…)."
                );
            if (url.Scheme != "https")
                throw new BadInputException(
                    $"--storage: {SecretText.Host(url)} is not https; give the https URL of the account, or a connection string."
                );
            return byUrl(url, new DefaultAzureCredential());
        }
        catch (Exception e) when (e is FormatException or ArgumentException)
        {
            throw new BadInputException(
                "--storage: neither an account URL (https://NAME.blob.core.windows.net) nor a connection string.",
                e
            );
        }
    }
}
