using System.Reflection;
using System.Text.Json;

namespace Serverless.Core.Runs;

/// <summary>An activity by name, for hosts that are told by message which to run.</summary>
/// <param name="Name">Name of its class.</param>
/// <param name="Input">Its input record.</param>
/// <param name="Output">Its output record.</param>
/// <param name="RunsModels">Whether it runs native code on the user's model.</param>
public sealed record CatalogedActivity(string Name, Type Input, Type Output, bool RunsModels)
{
    internal MethodInfo Run { get; init; } = null!;

    /// <summary>Whether a message may ask for it: its input is an <see cref="IPlaceable"/>.</summary>
    public bool IsPlaceable => Input.IsAssignableTo(typeof(IPlaceable));

    /// <summary>Runs it, JSON to JSON.</summary>
    public async Task<JsonElement> RunAsync(JsonElement input, ActivityContext context, CancellationToken cancellation)
    {
        var task = (Task)Run.Invoke(context, [input.Deserialize(Input, Json.Options), cancellation])!;
        await task;
        return JsonSerializer.SerializeToElement(task.GetType().GetProperty(nameof(Task<>.Result))!.GetValue(task), Output, Json.Options);
    }
}

/// <summary>Every activity of the pipeline; being there is being listed.</summary>
public static class ActivityCatalog
{
    /// <summary>Activities by name.</summary>
    public static IReadOnlyDictionary<string, CatalogedActivity> All { get; } =
        Of(typeof(Activity<,>))
            .Select(t => new CatalogedActivity(t.Type.Name, t.Arguments[0], t.Arguments[1], t.Type.IsAssignableTo(typeof(IRunsModels)))
            {
                Run = typeof(ActivityContext)
                    .GetMethod(nameof(ActivityContext.RunAsync))!
                    .MakeGenericMethod(t.Type, t.Arguments[0], t.Arguments[1]),
            })
            .ToDictionary(a => a.Name, StringComparer.Ordinal);

    /// <summary>Names of the orchestrations.</summary>
    public static IReadOnlyList<string> Orchestrations => [.. Of(typeof(Orchestration<,>)).Select(t => t.Type.Name)];

    private static IEnumerable<(Type Type, Type[] Arguments)> Of(Type open) =>
        from type in SubclassSearch.Of(typeof(ActivityCatalog).Assembly, open)
        orderby type.Name
        select (type, type.BaseType!.GetGenericArguments());
}
