using Microsoft.Azure.Functions.Worker.Builder;
using Microsoft.Extensions.Hosting;
using Serverless.App;
using Serverless.Core.Runs;

if (args is [ModelProcess.Command, .. var folder])
    return await ModelProcessChild.ServeAsync(folder.FirstOrDefault());

var builder = FunctionsApplication.CreateBuilder(args);
builder.Services.AddApp();
await builder.Build().RunAsync();
return 0;
