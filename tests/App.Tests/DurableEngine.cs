using System.Reflection;
using Microsoft.Azure.Functions.Worker;
using Microsoft.DurableTask;
using Microsoft.DurableTask.Testing;
using Microsoft.DurableTask.Worker;
using Microsoft.Extensions.DependencyInjection;

namespace Serverless.App.Tests;

/// <summary>The app's functions, found by their attributes, on the real Durable Task engine in this process.</summary>
internal static class DurableEngine
{
    private const int MostStarts = 5;

    /// <param name="host">What activities get.</param>
    /// <param name="instead">Gives the output of an activity instead of running it, or null to run it.</param>
    public static async Task<DurableTaskTestHost> StartAsync(AppHost host, Func<string, object?>? instead = null)
    {
        // The engine listens on a port that it draws, which another process may have.
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return await StartOnceAsync(host, instead);
            }
            catch (IOException e) when (attempt < MostStarts && e.InnerException is Microsoft.AspNetCore.Connections.AddressInUseException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100));
            }
        }
    }

    private static Task<DurableTaskTestHost> StartOnceAsync(AppHost host, Func<string, object?>? instead) =>
        DurableTaskTestHost.StartAsync(
            registry =>
            {
                foreach (var (name, method) in Functions(typeof(Orchestrations)))
                    registry.AddOrchestrator(name, () => new Orchestrator(method));
                foreach (var (name, method) in Functions(typeof(Activities)))
                    registry.AddActivity(name, _ => new Activity(method, new Activities(host), instead?.Invoke(name)));
            },
            new DurableTaskTestHostOptions
            {
                ConfigureServices = services =>
                {
                    services.Configure<DurableTaskWorkerOptions>(o => o.DataConverter = AppProvider.Converter);
                    services.Configure<Microsoft.DurableTask.Client.DurableTaskClientOptions>(o => o.DataConverter = AppProvider.Converter);
                },
            }
        );

    /// <summary>
    /// Events and bytes of an orchestration's history: the in-memory engine tells them to nobody, so they are read out of it.
    /// </summary>
    public static (int Events, long Bytes) History(DurableTaskTestHost engine, string id)
    {
        const BindingFlags Inside = BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public;
        var sidecar = (Microsoft.Extensions.Hosting.IHost)typeof(DurableTaskTestHost).GetField("sidecarHost", Inside)!.GetValue(engine)!;
        var service = sidecar.Services.GetRequiredService<DurableTask.Core.IOrchestrationService>();
        var store = service.GetType().GetField("instanceStore", Inside)!.GetValue(service)!;
        var states = (System.Collections.IDictionary)
            store
                .GetType()
                .GetFields(Inside)
                .Select(f => f.GetValue(store))
                .Single(v => v is System.Collections.IDictionary d && d.Contains(id))!;
        var events = (System.Text.Json.Nodes.JsonArray)
            states[id]!.GetType().GetProperty("HistoryEventsJson", Inside)!.GetValue(states[id])!;
        return (
            events.Count,
            events.Sum(e =>
                System
                    .Text.Json.JsonSerializer.SerializeToUtf8Bytes<object>(e!.GetValue<DurableTask.Core.History.HistoryEvent>())
                    .LongLength
            )
        );
    }

    private static IEnumerable<(string Name, MethodInfo Method)> Functions(Type type) =>
        from method in type.GetMethods()
        let function = method.GetCustomAttribute<FunctionAttribute>()
        where function is not null
        select (function.Name, method);

    private static async Task<object?> ResultAsync(object task)
    {
        await (Task)task;
        return task.GetType().GetProperty("Result")!.GetValue(task);
    }

    private sealed class Orchestrator(MethodInfo method) : ITaskOrchestrator
    {
        // The worker leaves it to its context to read the input (FunctionsOrchestrator).
        public Type InputType { get; } = typeof(object);

        public Type OutputType { get; } = method.ReturnType.GetGenericArguments()[0];

        public Task<object?> RunAsync(TaskOrchestrationContext context, object? input) =>
            ResultAsync(method.Invoke(null, [AppProvider.Context(context)])!);
    }

    private sealed class Activity(MethodInfo method, Activities activities, object? instead) : ITaskActivity
    {
        public Type InputType { get; } = method.GetParameters()[0].ParameterType;

        public Type OutputType { get; } = method.ReturnType.GetGenericArguments()[0];

        public Task<object?> RunAsync(TaskActivityContext context, object? input) =>
            instead is not null
                ? Task.FromResult<object?>(instead)
                : ResultAsync(method.Invoke(activities, [input, new AppProvider.Function(context.InstanceId)])!);
    }
}
