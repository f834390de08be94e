using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Azure.Functions.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Serverless.Core;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Xunit;

namespace Serverless.App.Tests;

/// <summary>What functions take and give passes through the worker's own converters as it is.</summary>
public class WorkerConverterTests
{
    public static TheoryData<string, string> Records { get; } =
        new(
            from type in new[] { typeof(Activities), typeof(Orchestrations) }
            from method in type.GetMethods()
            where method.GetCustomAttribute<FunctionAttribute>() is not null
            from record in new[] { Input(method), method.ReturnType.GetGenericArguments()[0] }
            select (method.Name, record.FullName!)
        );

    [Theory]
    [MemberData(nameof(Records))]
    public void A_record_comes_back_as_it_went(string function, string record)
    {
        var type = typeof(Json).Assembly.GetType(record, throwOnError: true)!;
        var value = JsonSerializer.Deserialize(Sample(type), type, Json.Options);
        var converter = AppProvider.Converter;
        var text = converter.Serialize(value);
        Assert.Equal(JsonSerializer.Serialize(value, type, Json.Options), text);
        // An activity's input, and every result.
        Assert.Equal(text, converter.Serialize(converter.Deserialize(text, type)));
        // An orchestration's input: read as JSON first, then with the provider's options.
        var json = Assert.IsType<JsonElement>(converter.Deserialize<object>(text));
        var options = AppProvider.Services.GetRequiredService<IOptions<JsonSerializerOptions>>().Value;
        Assert.Equal(text, converter.Serialize(json.Deserialize(type, options)));
        Assert.NotEmpty(function);
    }

    [Fact]
    public void The_placement_of_layers_reaches_their_orchestration()
    {
        var input = new LayersInput("work/n", "work/layers", 0, "0123", 0, 250, new StepPlacement { Device = StepDevice.Gpu });
        var json = (JsonElement)AppProvider.Converter.Deserialize<object>(AppProvider.Converter.Serialize(input))!;
        var options = AppProvider.Services.GetRequiredService<IOptions<JsonSerializerOptions>>().Value;
        Assert.Equal(input, json.Deserialize<LayersInput>(options));
    }

    // Orchestrations read their input from their context.
    private static Type Input(MethodInfo function) =>
        function.GetParameters()[0].GetCustomAttribute<ActivityTriggerAttribute>() is not null
            ? function.GetParameters()[0].ParameterType
            : typeof(DropRun).Assembly.GetType($"{typeof(DropRun).Namespace}.{function.Name}")!.BaseType!.GetGenericArguments()[0];

    // JSON of a record with a value for each of its parameters and properties, enums as words among them.
    private static string Sample(Type type, int depth = 0)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type.IsEnum)
            return JsonSerializer.Serialize(Enum.GetValues(type).GetValue(Enum.GetValues(type).Length - 1), type, Json.Options);
        if (type == typeof(string))
            return "\"a/b\"";
        if (type == typeof(bool))
            return "true";
        if (type == typeof(DateTime) || type == typeof(DateTimeOffset))
            return "\"2026-01-02T03:04:05Z\"";
        if (type.IsPrimitive)
            return "1";
        if (depth > 6)
            return "null";
        if (type.IsGenericType && type.GetGenericArguments() is [var key, var mapped] && key == typeof(string))
            return $$"""{"k":{{Sample(mapped, depth + 1)}}}""";
        if (type.IsArray)
            return $"[{Sample(type.GetElementType()!, depth + 1)}]";
        if (type.IsGenericType)
            return $"[{Sample(type.GetGenericArguments()[0], depth + 1)}]";
        // Of a record with several kinds, the first.
        if (type.GetCustomAttributes<JsonDerivedTypeAttribute>().FirstOrDefault() is { } kind)
            type = kind.DerivedType;
        var fields = type.GetProperties()
            .Where(p => p.GetMethod!.GetParameters().Length == 0 && p.CanWrite && p.GetCustomAttribute<JsonIgnoreAttribute>() is null)
            .Select(p => $"\"{JsonNamingPolicy.CamelCase.ConvertName(p.Name)}\":{Sample(p.PropertyType, depth + 1)}");
        return $"{{{string.Join(',', fields.Prepend(Discriminator(type)).Where(f => f.Length > 0))}}}";
    }

    private static string Discriminator(Type type) =>
        type.BaseType is { } parent
        && parent.GetCustomAttribute<JsonPolymorphicAttribute>() is { TypeDiscriminatorPropertyName: { } name }
        && parent.GetCustomAttributes<JsonDerivedTypeAttribute>().FirstOrDefault(d => d.DerivedType == type) is { } kind
            ? $"\"{name}\":\"{kind.TypeDiscriminator}\""
            : "";
}
