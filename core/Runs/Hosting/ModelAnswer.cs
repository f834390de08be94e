using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>
/// What a model process is told, a line on standard input for each activity, where other users of the machine cannot read a connection
/// string.
/// </summary>
/// <param name="Activity">The activity.</param>
/// <param name="Input">Its input record.</param>
/// <param name="Store">The store.</param>
/// <param name="MemoryLimit">Resident bytes that it may take.</param>
internal sealed record ModelRequest(string Activity, JsonElement Input, StoreSpec Store, long MemoryLimit);

/// <summary>Why an activity of a model process failed.</summary>
internal enum ModelFailure
{
    /// <summary>It did not.</summary>
    None,

    /// <summary>The input is wrong.</summary>
    BadInput,

    /// <summary>An object of the work is damaged.</summary>
    Damaged,

    /// <summary>A failure that may pass.</summary>
    Transient,

    /// <summary>It took too much memory or time.</summary>
    Limit,

    /// <summary>Anything else.</summary>
    Failed,
}

/// <summary>What a model process answers, a line on standard output.</summary>
/// <param name="Output">The activity's output record; null when it failed.</param>
/// <param name="Failure">Why it failed.</param>
/// <param name="Error">The same in a sentence; null when it did not fail.</param>
internal sealed record ModelAnswer(JsonElement? Output, ModelFailure Failure, string? Error)
{
    /// <summary>Whether the process waits for another request; otherwise it ends.</summary>
    public bool Waits { get; init; }

    /// <summary>The failure as the exception that the activity would have thrown here.</summary>
    public Exception ToException() =>
        Failure switch
        {
            ModelFailure.BadInput => new BadInputException(Error!),
            ModelFailure.Damaged => new DamagedWorkException(Error!),
            ModelFailure.Transient => new IOException(Error),
            ModelFailure.Limit => new ModelLimitException(Error!),
            _ => new InvalidOperationException(Error),
        };
}
