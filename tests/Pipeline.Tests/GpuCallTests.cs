using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Recipes;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>What becomes of a step that was sent to a GPU.</summary>
public class GpuCallTests
{
    private static readonly StepPlacement Gpu = new() { Device = StepDevice.Gpu, Timeout = 7 };
    private static readonly PlacedInput Input = new("work/nothing");

    [Fact]
    public async Task An_answer_is_the_output_and_nothing_runs_here()
    {
        var host = Host(name =>
            JsonSerializer.Serialize(
                new GpuAnswer("r", name, JsonSerializer.SerializeToElement(new Cleared(5), Json.Options), null, false, "cuda"),
                Json.Options
            )
        );
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
        Assert.Equal(["SendGpuStep", "SendGpuStep", "SendGpuStep", "PlacedWork"], host.Calls);
    }

    [Fact]
    public async Task A_failure_is_tried_again_and_bad_input_is_not()
    {
        var first = true;
        var host = Host(name =>
        {
            var failed = first;
            first = false;
            return JsonSerializer.Serialize(
                new GpuAnswer(
                    "r",
                    name,
                    failed ? null : JsonSerializer.SerializeToElement(new Cleared(1), Json.Options),
                    failed ? "out of memory" : null,
                    false,
                    "cuda"
                ),
                Json.Options
            );
        });
        Assert.Equal(1, (await RunAsync(host, Gpu)).Objects);
        Assert.Equal(2, host.Calls.Count);
        Assert.Contains(host.Lines, l => l.Contains("out of memory", StringComparison.Ordinal));
        var bad = Host(name => JsonSerializer.Serialize(new GpuAnswer("r", name, null, "w: it has no shape.", true, "cuda"), Json.Options));
        Assert.Equal(
            "w: it has no shape.",
            (await Assert.ThrowsAsync<BadInputException>(() => RunAsync(bad, Gpu with { Fallback = GpuFallback.Cpu }))).Message
        );
        Assert.Single(bad.Calls);
    }

    [Fact]
    public async Task An_answer_that_cannot_be_read_counts_as_a_failed_attempt()
    {
        var answers = new Queue<string>(["{", "null", """{"runId": "r", "event": "e", "output": {"objects": "many"}}"""]);
        var failure = await Assert.ThrowsAsync<TimeoutException>(() => RunAsync(Host(_ => answers.Dequeue()), Gpu));
        Assert.Contains("cannot be read", failure.Message);
        Assert.Empty(answers);
    }

    [Theory]
    [InlineData("""{"work": "work/r", "shards": "work/layers"}""", "work/r", "CompressLayer", "gpu-answers", null)]
    [InlineData("""{"work": "work/r", "shards": "work/layers"}""", "work/r", "CompressLayer", null, null)]
    [InlineData("""{"work": "work/r"}""", "work/r", "ClearWork", "gpu-answers", "runs on a GPU")]
    [InlineData("""{"work": "work/r"}""", "work/r", "Format", "gpu-answers", "runs on a GPU")]
    [InlineData("""{"work": "work/r", "shards": "work/layers"}""", "drop/r", "CompressLayer", "gpu-answers", "under work/")]
    [InlineData("""{"work": "drop/r", "shards": "work/layers"}""", "work/r", "CompressLayer", "gpu-answers", "under work/")]
    [InlineData("""{"work": "work/r", "shards": "compressed/x"}""", "work/r", "CompressLayer", "gpu-answers", "under work/")]
    [InlineData("""{"work": "work/../drop", "shards": "work/layers"}""", "work/r", "CompressLayer", "gpu-answers", "under work/")]
    [InlineData("""{"work": "work/r"}""", "work/r", "CompressLayer", "gpu-answers", "under work/")]
    [InlineData("null", "work/r", "CompressLayer", "gpu-answers", "input")]
    [InlineData("3", "work/r", "CompressLayer", "gpu-answers", "JSON")]
    [InlineData("""{"work": "work/r", "shards": "work/layers"}""", "work/r", "CompressLayer", "Bad Queue!", "answerTo")]
    [InlineData("""{"work": "work/r", "shards": "work/layers"}""", "work/r", "CompressLayer", "a--b", "answerTo")]
    [InlineData("""{"work": "work/r", "shards": "work/layers"}""", "work/r", "CompressLayer", "../events", "answerTo")]
    public void Only_placeable_work_under_work_is_a_step(string input, string work, string activity, string? answerTo, string? why)
    {
        var body = JsonSerializer.Serialize(
            new
            {
                runId = "r",
                work,
                @event = "gpu-1",
                activity,
                input = JsonDocument.Parse(input).RootElement,
                answerTo,
            }
        );
        var (step, reason) = GpuStep.Read(body);
        Assert.Equal(why is null, step is not null);
        if (why is not null)
            Assert.Contains(why, reason);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"runId": "r", "work": "work/r", "event": "e"}""")]
    [InlineData("""{"runId": "\ud800", "work": "work/r", "event": "e"}""")]
    public void What_is_no_step_is_said_to_be_none(string body) => Assert.Null(GpuStep.Read(body).Step);

    [Fact]
    public void Work_that_may_be_placed_is_marked() =>
        Assert.Equal(
            [nameof(ApplyCodedStep), nameof(ApplyGraphStep), nameof(ApplyModelStep), nameof(CompressLayer)],
            ActivityCatalog.All.Values.Where(a => a.IsPlaceable).Select(a => a.Name).Order(StringComparer.Ordinal)
        );

    [Fact]
    public async Task A_host_without_a_queue_runs_it_in_place()
    {
        var host = Host(_ => throw new InvalidOperationException("nothing was sent"), hasQueue: false);
        Assert.Equal(0, (await RunAsync(host, Gpu)).Objects);
        Assert.Equal(["SendGpuStep", "PlacedWork"], host.Calls);
    }

    private static Task<Cleared> RunAsync(VirtualOrchestration host, StepPlacement placement) =>
        GpuCall.RunAsync<PlacedWork, PlacedInput, Cleared>(host, "work/r", "clear", Input, placement);

    private static VirtualOrchestration Host(Func<string, string?> answer, bool hasQueue = true)
    {
        var work = Path.Combine(Path.GetTempPath(), "serverless-none");
        return new VirtualOrchestration(
            "r",
            new ActivityContext(new FolderStore(new Dictionary<string, string> { ["work"] = work }), new MemoryGate(1))
        )
        {
            Raised = (name, _) => Task.FromResult(answer(name)),
            Instead = (name, _) => name == nameof(SendGpuStep) && hasQueue ? new GpuSent(true) : null,
        };
    }

    private sealed record PlacedInput(string Work) : IPlaceable
    {
        IReadOnlyList<string> IPlaceable.Folders => [Work];
    }

    private sealed class PlacedWork : Activity<PlacedInput, Cleared>
    {
        public override Task<Cleared> RunAsync(PlacedInput input, ActivityContext context, CancellationToken cancellation) =>
            Task.FromResult(new Cleared(0));
    }
}
