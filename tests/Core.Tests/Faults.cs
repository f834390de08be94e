using Azure;
using Azure.Core;
using Azure.Core.Pipeline;

namespace Serverless.TestSupport;

/// <summary>A bad network: in equal parts throttling, connections cut before and after the call, and calls that hang.</summary>
/// <param name="share">Share of the calls that fail.</param>
/// <param name="hangs">Whether calls hang too; each costs the time limit of an attempt.</param>
internal sealed class Faults(double share, bool hangs = false) : HttpPipelinePolicy
{
    private readonly Random random = new(3);

    public int Injected { get; private set; }

    public int Calls { get; private set; }

    public override async ValueTask ProcessAsync(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
    {
        int kind;
        lock (random)
        {
            Calls++;
            kind = random.NextDouble() < share ? random.Next(hangs ? 4 : 3) : -1;
            if (kind >= 0)
                Injected++;
        }
        if (kind == 0)
            throw new RequestFailedException(503, "Server Busy");
        if (kind == 1)
            throw new HttpRequestException("The connection was cut.");
        if (kind == 3)
            await Task.Delay(Timeout.Infinite, message.CancellationToken);
        await ProcessNextAsync(message, pipeline);
        // The call was done, and its answer lost.
        if (kind == 2)
            throw new IOException("The connection was cut after the call.");
    }

    public override void Process(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline) => ProcessNext(message, pipeline);
}
