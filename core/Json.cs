using System.Text.Json;
using System.Text.Json.Serialization;

namespace Serverless.Core;

/// <summary>JSON as it passes between activities and stands in reports: camelCase, enums as words.</summary>
public static class Json
{
    /// <summary>The serializer options used throughout.</summary>
    public static JsonSerializerOptions Options { get; } = new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
        NumberHandling = JsonNumberHandling.Strict,
    };

    /// <summary>The same, indented, for files that people read.</summary>
    public static JsonSerializerOptions Indented { get; } = new(Options) { WriteIndented = true };
}
