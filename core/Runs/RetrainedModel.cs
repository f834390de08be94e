using System.Text.Json;

namespace Serverless.Core.Runs;

/// <summary>Weights that were trained again.</summary>
/// <param name="Model">Store path of the model, in the container <c>retrained</c>.</param>
/// <param name="Run">The run that waits for it, or null.</param>
/// <param name="Predecessor">The run whose recipe to take, when none waits; null for the drop's own recipe.</param>
public sealed record RetrainedModel(string Model, string? Run = null, string? Predecessor = null)
{
    /// <summary>The store path that an event names, or null when it names none.</summary>
    /// <param name="json">The event, in JSON.</param>
    public static string? Read(string json)
    {
        try
        {
            return JsonSerializer.Deserialize<RetrainedModel>(json, Json.Options)?.Model is { Length: > 0 } model ? model : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
