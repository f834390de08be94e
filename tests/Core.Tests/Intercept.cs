using Azure.Core;
using Azure.Core.Pipeline;

namespace Serverless.TestSupport;

/// <summary>Something done before each call: it may throw, wait or change the request.</summary>
internal sealed class Intercept(Func<HttpMessage, Task> before) : HttpPipelinePolicy
{
    public override async ValueTask ProcessAsync(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
    {
        await before(message);
        await ProcessNextAsync(message, pipeline);
    }

    public override void Process(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline) => ProcessNext(message, pipeline);
}
