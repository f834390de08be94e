using Azure.Core.Serialization;
using Microsoft.Azure.Functions.Worker;
using Microsoft.Azure.Functions.Worker.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Serverless.App;
using Serverless.Core;
using Serverless.Core.Pipeline;

if (args is [ModelProcess.Command]) return await ModelProcessChild.ServeAsync();

var builder = FunctionsApplication.CreateBuilder(args);
builder.Services.AddSingleton(services => AppHost.FromEnvironment(services.GetRequiredService<ILoggerFactory>()));
builder.Services.Configure<WorkerOptions>(worker => worker.Serializer = new JsonObjectSerializer(Json.Options));
await builder.Build().RunAsync();
return 0;
