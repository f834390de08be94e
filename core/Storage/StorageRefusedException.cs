namespace Serverless.Core.Storage;

/// <summary>
/// The storage account refuses: the wrong account, no right, no container. It is the account's fault and not the model's, so a run keeps
/// what it has done and goes on once the account is mended; a host that meets it at its start calls it bad input.
/// </summary>
public sealed class StorageRefusedException : IOException
{
    /// <summary>Creates the exception with the sentence shown to the user and what caused it.</summary>
    public StorageRefusedException(string message, Exception inner)
        : base(message, inner) { }
}
