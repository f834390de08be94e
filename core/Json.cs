using System.Text.Json;
using System.Text.Json.Serialization;

namespace Serverless.Core;

/// <summary>JSON as it passes between activities and stands in reports: camelCase, enums as words.</summary>
public static class Json
{
    /// <summary>The serializer options used throughout.</summary>
    public static JsonSerializerOptions Options { get; } = Applied(new JsonSerializerOptions());

    /// <summary>The same, indented, for files that people read.</summary>
    public static JsonSerializerOptions Indented { get; } = new(Options) { WriteIndented = true };

    /// <summary>Makes options of another's, as a host's, these.</summary>
    public static void Apply(JsonSerializerOptions options)
    {
        options.PropertyNameCaseInsensitive = true;
        options.PropertyNamingPolicy = JsonNamingPolicy.CamelCase;
        options.NumberHandling = JsonNumberHandling.Strict;
        options.Converters.Add(new JsonStringEnumConverter(JsonNamingPolicy.CamelCase));
    }

    private static JsonSerializerOptions Applied(JsonSerializerOptions options)
    {
        Apply(options);
        return options;
    }
}
