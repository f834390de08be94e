using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.DurableTask.Client;

namespace Serverless.App;

/// <summary>
/// Why a run ended badly, in its sentence. The engine says so in <see cref="OrchestrationMetadata.FailureDetails"/>, or, as the
/// Functions host does with Azure Storage, in the output: as text, as a JSON string, or as JSON with the message in it.
/// </summary>
internal static partial class RunFailure
{
    /// <summary>The sentence, or null of a run that did not end badly.</summary>
    public static string? Of(OrchestrationMetadata run) =>
        run.RuntimeStatus switch
        {
            OrchestrationRuntimeStatus.Failed => Of(run.FailureDetails?.ErrorMessage)
                ?? Of(run.SerializedOutput)
                ?? "The run failed, and the engine does not say why.",
            OrchestrationRuntimeStatus.Terminated => Of(run.SerializedOutput) ?? "cancelled",
            _ => null,
        };

    /// <summary>The sentence in an output; null when there is none.</summary>
    internal static string? Of(string? output)
    {
        if (string.IsNullOrWhiteSpace(output))
            return null;
        var text = Json(output) ?? output;
        var line = Prefix().Replace(text.Trim(), "").Split('\n')[0].Trim();
        return line.Length > 0 ? line : null;
    }

    private static string? Json(string output)
    {
        try
        {
            using var document = JsonDocument.Parse(output);
            return Message(document.RootElement);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    // The innermost failure is the one that says something.
    private static string? Message(JsonElement json)
    {
        if (json.ValueKind == JsonValueKind.String)
            return json.GetString();
        if (json.ValueKind != JsonValueKind.Object)
            return null;
        string? found = null;
        foreach (var property in json.EnumerateObject())
        {
            if (property.Name.Equals("innerFailure", StringComparison.OrdinalIgnoreCase) && Message(property.Value) is { } inner)
                return inner;
            if (property.Name.Equals("errorMessage", StringComparison.OrdinalIgnoreCase))
                found = property.Value.GetString();
        }
        return found;
    }

    [GeneratedRegex(@"^(Orchestrator function '[^']*' failed: |Unhandled exception[^:]*: |([A-Za-z_]\w*\.)+\w*Exception: )+")]
    private static partial Regex Prefix();
}
