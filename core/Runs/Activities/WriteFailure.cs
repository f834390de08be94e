using System.Text.Json;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="WriteFailure"/>.</summary>
/// <param name="RunId">The run that failed.</param>
/// <param name="Model">The model's path.</param>
/// <param name="Error">Why, in a sentence.</param>
public sealed record FailureInput(string RunId, string Model, string Error);

/// <summary>Where the failure is written down.</summary>
public sealed record FailureWritten(string Path);

/// <summary>Writes <c>failed/NAME/RUN/error.json</c>, without the paths of this machine.</summary>
public sealed class WriteFailure : Activity<FailureInput, FailureWritten>
{
    /// <inheritdoc/>
    public override async Task<FailureWritten> RunAsync(FailureInput input, ActivityContext context, CancellationToken cancellation)
    {
        var path = RunPaths.Failure(input.RunId);
        var failure = new
        {
            status = "failed",
            runId = input.RunId,
            model = Shown(input.Model),
            error = Shown(input.Error),
        };
        var body = JsonSerializer.SerializeToUtf8Bytes(failure, Json.Indented);
        await context.Store.WriteBytesAsync(path, body, cancellation);
        return new FailureWritten(path);

        string Shown(string text) => Printable.Line(LocalPaths.Hide(text, context.Store));
    }
}
