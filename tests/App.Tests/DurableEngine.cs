using System.Reflection;
using Microsoft.Azure.Functions.Worker;
using Microsoft.DurableTask;
using Microsoft.DurableTask.Converters;
using Microsoft.DurableTask.Testing;
using Microsoft.DurableTask.Worker;
using Microsoft.Extensions.DependencyInjection;
using Serverless.Core;

namespace Serverless.App.Tests;

/// <summary>The app's functions, found by their attributes, on the real Durable Task engine in this process.</summary>
internal static class DurableEngine
{
    public static Task<DurableTaskTestHost> StartAsync(AppHost host) => DurableTaskTestHost.StartAsync(registry =>
    {
        foreach (var (name, method) in Functions(typeof(Orchestrations)))
            registry.AddOrchestrator(name, () => new Orchestrator(method));
        foreach (var (name, method) in Functions(typeof(Activities)))
            registry.AddActivity(name, _ => new Activity(method, new Activities(host)));
    }, new DurableTaskTestHostOptions
    {
        ConfigureServices = services =>
        {
            // As WorkerOptions.Serializer does in the app.
            services.Configure<DurableTaskWorkerOptions>(o => o.DataConverter = new JsonDataConverter(Json.Options));
            services.Configure<Microsoft.DurableTask.Client.DurableTaskClientOptions>(o => o.DataConverter = new JsonDataConverter(Json.Options));
        },
    });

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
        public Type InputType { get; } = typeof(Core.Pipeline.DropRun).Assembly.GetType($"Serverless.Core.Pipeline.{method.Name}")!.BaseType!.GetGenericArguments()[0];

        public Type OutputType { get; } = method.ReturnType.GetGenericArguments()[0];

        public Task<object?> RunAsync(TaskOrchestrationContext context, object? input) => ResultAsync(method.Invoke(null, [context])!);
    }

    private sealed class Activity(MethodInfo method, Activities activities) : ITaskActivity
    {
        public Type InputType { get; } = method.GetParameters()[0].ParameterType;

        public Type OutputType { get; } = method.ReturnType.GetGenericArguments()[0];

        public Task<object?> RunAsync(TaskActivityContext context, object? input) => ResultAsync(method.Invoke(activities, [input, CancellationToken.None])!);
    }
}
