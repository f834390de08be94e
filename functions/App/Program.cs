using Microsoft.Azure.Functions.Worker.Builder;
using Microsoft.Extensions.Hosting;
using Serverless.App;
using Serverless.Core.Runs;

if (args is [ModelProcess.Command, .. var when])
    return await ModelProcessChild.ServeAsync(early: when is [ModelProcess.Early]);

var builder = FunctionsApplication.CreateBuilder(args);
builder.Services.AddApp();
await builder.Build().RunAsync();
return 0;
