using System.Reflection;
using Microsoft.Azure.Functions.Worker;
using Microsoft.Azure.Functions.Worker.Builder;
using Microsoft.Azure.Functions.Worker.Core;
using Microsoft.DurableTask;
using Microsoft.DurableTask.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Serverless.App.Tests;

/// <summary>The app's service provider, with what the Functions SDK adds for its extensions; no host is connected to.</summary>
internal static class AppProvider
{
    public static IServiceProvider Services { get; } = Build();

    /// <summary>Reads inputs of activities, and all results.</summary>
    public static DataConverter Converter { get; } = Services.GetRequiredService<IOptions<DurableTaskWorkerOptions>>().Value.DataConverter;

    /// <summary>The context that the worker gives to an orchestration function.</summary>
    public static TaskOrchestrationContext Context(TaskOrchestrationContext inner) =>
        (TaskOrchestrationContext)
            Activator.CreateInstance(
                typeof(OrchestrationTriggerAttribute).Assembly.GetType(
                    "Microsoft.Azure.Functions.Worker.Extensions.DurableTask.FunctionsOrchestrationContext",
                    throwOnError: true
                )!,
                inner,
                new Function(inner.InstanceId)
            )!;

    private static IServiceProvider Build()
    {
        var builder = FunctionsApplication.CreateBuilder([]);
        builder.Services.AddApp();
        // The worker does so with the startup code that the SDK generates into the entry assembly, which a test is not.
        var startup = typeof(AppHost)
            .Assembly.GetCustomAttribute<WorkerExtensionStartupCodeExecutorInfoAttribute>()!
            .StartupCodeExecutorType;
        ((WorkerExtensionStartup)Activator.CreateInstance(startup)!).Configure(builder);
        return builder.Build().Services;
    }

    /// <summary>One call of a function, as the host tells of it.</summary>
    internal sealed class Function(string instanceId) : FunctionContext
    {
        public override string InvocationId => "1";

        public override string FunctionId => "1";

        public override TraceContext TraceContext => throw new NotSupportedException();

        public override BindingContext BindingContext { get; } = new Bound(new Dictionary<string, object?> { ["instanceId"] = instanceId });

        public override Microsoft.Azure.Functions.Worker.RetryContext RetryContext => throw new NotSupportedException();

        public override IServiceProvider InstanceServices { get; set; } = Services;

        public override FunctionDefinition FunctionDefinition => throw new NotSupportedException();

        public override IDictionary<object, object> Items { get; set; } = new Dictionary<object, object>();

        public override IInvocationFeatures Features => throw new NotSupportedException();

        private sealed class Bound(IReadOnlyDictionary<string, object?> data) : BindingContext
        {
            public override IReadOnlyDictionary<string, object?> BindingData { get; } = data;
        }
    }
}
