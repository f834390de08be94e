using System.Text.Json;
using Azure.Core.Serialization;
using Microsoft.Azure.Functions.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Serverless.Core;

namespace Serverless.App;

/// <summary>What the app puts into the worker's service provider.</summary>
public static class AppServices
{
    /// <summary>
    /// Adds the host of the pipeline and its JSON. The Durable extension reads the input of an activity and all results with
    /// <see cref="WorkerOptions.Serializer"/>, the input of an orchestration with the <see cref="JsonSerializerOptions"/> of the provider.
    /// </summary>
    public static IServiceCollection AddApp(this IServiceCollection services) =>
        services
            .AddSingleton(provider => AppHost.FromEnvironment(provider.GetRequiredService<ILoggerFactory>()))
            .AddHostedService<StorageSetup>()
            .Configure<JsonSerializerOptions>(Json.Apply)
            .Configure<WorkerOptions>(worker => worker.Serializer = new JsonObjectSerializer(Json.Options));
}
