using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Pipeline;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>What becomes of a step that was sent to a GPU.</summary>
public class GpuCallTests
{
    private static readonly StepPlacement Gpu = new() { Device = StepDevice.Gpu, Timeout = 7 };
    private static readonly ClearInput Input = new("work/nothing");

    [Fact]
    public async Task An_answer_is_the_output_and_nothing_runs_here()
    {
        var host = Host(name => JsonSerializer.Serialize(new GpuAnswer("r", name, JsonSerializer.SerializeToElement(new Cleared(5), Json.Options), null, false, "cuda"), Json.Options));
        Assert.Equal(5, (await RunAsync(host, Gpu)).Objects);
        Assert.Equal(["SendGpuStep"], host.Calls);
    }

    [Fact]
    public async Task Without_an_answer_it_is_sent_again_and_given_up_with_a_sentence()
    {
        var host = Host(_ => null);
        var before = host.UtcNow;
        var failure = await Assert.ThrowsAsync<TimeoutException>(() => RunAsync(host, Gpu));
        Assert.Contains("no answer within 7 minutes", failure.Message);
        Assert.Contains("fallback: cpu", failure.Message);
        Assert.Equal(GpuCall.MaxSends, host.Calls.Count);
        Assert.Equal(GpuCall.MaxSends * 7, (host.UtcNow - before).TotalMinutes);
    }

    [Fact]
    public async Task With_a_fallback_it_runs_here()
    {
        var host = Host(_ => null);
        Assert.Equal(0, (await RunAsync(host, Gpu with { Fallback = GpuFallback.Cpu })).Objects);
        Assert.Equal(["SendGpuStep", "SendGpuStep", "SendGpuStep", "ClearWork"], host.Calls);
    }

    [Fact]
    public async Task A_failure_is_tried_again_and_bad_input_is_not()
    {
        var first = true;
        var host = Host(name =>
        {
            var failed = first;
            first = false;
            return JsonSerializer.Serialize(new GpuAnswer("r", name, failed ? null : JsonSerializer.SerializeToElement(new Cleared(1), Json.Options), failed ? "out of memory" : null, false, "cuda"), Json.Options);
        });
        Assert.Equal(1, (await RunAsync(host, Gpu)).Objects);
        Assert.Equal(2, host.Calls.Count);
        Assert.Contains(host.Lines, l => l.Contains("out of memory", StringComparison.Ordinal));
        var bad = Host(name => JsonSerializer.Serialize(new GpuAnswer("r", name, null, "w: it has no shape.", true, "cuda"), Json.Options));
        Assert.Equal("w: it has no shape.", (await Assert.ThrowsAsync<BadInputException>(() => RunAsync(bad, Gpu with { Fallback = GpuFallback.Cpu }))).Message);
        Assert.Single(bad.Calls);
    }

    [Fact]
    public async Task A_host_without_a_queue_runs_it_in_place()
    {
        var host = Host(_ => throw new InvalidOperationException("nothing was sent"), hasQueue: false);
        Assert.Equal(0, (await RunAsync(host, Gpu)).Objects);
        Assert.Equal(["SendGpuStep", "ClearWork"], host.Calls);
    }

    private static Task<Cleared> RunAsync(VirtualOrchestration host, StepPlacement placement) =>
        GpuCall.RunAsync<ClearWork, ClearInput, Cleared>(host, "work/r", "clear", Input, placement);

    private static VirtualOrchestration Host(Func<string, string?> answer, bool hasQueue = true)
    {
        var work = Path.Combine(Path.GetTempPath(), "serverless-none");
        return new VirtualOrchestration("r", new ActivityContext(new FolderStore(new Dictionary<string, string> { ["work"] = work }), new MemoryGate(1)))
        {
            Raised = (name, _) => Task.FromResult(answer(name)),
            Instead = (name, _) => name == nameof(SendGpuStep) && hasQueue ? new GpuSent(true) : null,
        };
    }
}
