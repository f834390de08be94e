using System.Diagnostics;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>Steps for a GPU: a real queue on Azurite, the job as a process of its own, on the CPU.</summary>
public class GpuJobTests(Azurite azurite) : IClassFixture<Azurite>
{
    private static readonly string Program = Path.Combine(AppContext.BaseDirectory, "Serverless.GpuJob.dll");

    [Fact]
    public async Task A_job_killed_midway_is_finished_by_its_successor_and_the_bytes_are_those_of_the_cpu()
    {
        using var folder = new Folder();
        var store = azurite.Store();
        await store.EnsureContainersAsync(["drop", "work"], default);
        await store.WriteBytesAsync(
            "drop/g/recipe.yaml",
            "version: 1\nsteps:\n- quantize: {bits: 8, device: gpu, timeout: 5}\n"u8.ToArray(),
            default
        );
        await store.WriteBytesAsync(
            "drop/g/digits.onnx",
            await File.ReadAllBytesAsync(Path.Combine(RealModels.Digits, "digits.onnx")),
            default
        );
        using var watch = CommandLine.Start(folder.Path, "watch", ".", "--storage", azurite.ConnectionString, "--once");
        var error = watch.StandardError.ReadToEndAsync();
        var killed = false;
        // A job on a busy machine may have answered before the signal reaches it; then the next one is killed.
        for (var i = 0; i < 3 && !killed; i++)
            killed = await KillMidwayAsync(store);
        var jobs = 0;
        for (var end = DateTime.UtcNow.AddMinutes(2); !watch.HasExited && DateTime.UtcNow < end; jobs++)
            Assert.Equal(0, (await RunJobAsync()).ExitCode);
        await watch.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromSeconds(30)).Token);
        Assert.True(watch.ExitCode == 0, await error);
        var outputs = new List<string>();
        await foreach (var a in store.ListAsync("compressed/g/", default))
            outputs.Add(a.Path);
        Assert.True(outputs.Count > 0, await error);
        var local = await CommandLine.RunAsync(folder.Path, "compress", Path.Combine(RealModels.Digits, "digits.onnx"), "--out", "local");
        Assert.True(local.ExitCode == 0, local.Error);
        Assert.Equal(
            await File.ReadAllBytesAsync(Path.Combine(folder.Path, "local", "model.onnx")),
            await store.ReadBytesAsync(outputs.Single(p => p.EndsWith(".onnx", StringComparison.Ordinal)), 1 << 20, default)
        );
        Assert.Contains(
            "device: gpu",
            System.Text.Encoding.UTF8.GetString(
                await store.ReadBytesAsync(outputs.Single(p => p.EndsWith(".yaml", StringComparison.Ordinal)), 1 << 20, default)
            )
        );
        Assert.True(killed, "the first job had answered before it was killed");
    }

    [Fact]
    public async Task What_is_no_step_is_set_aside_with_its_reason_and_an_empty_queue_is_no_error()
    {
        var queue = StepQueue.Connect(azurite.ConnectionString, GpuWorker.Steps);
        await queue.SendAsync("""{"activity": "Format", "runId": "x", "work": "work/x", "event": "e", "input": {}}""", default);
        Assert.Contains("set aside", (await RunJobAsync()).Error);
        var poison = await queue.Sibling(GpuWorker.Steps + "-poison").TryTakeAsync(TimeSpan.FromSeconds(30), default);
        await using (poison)
        {
            Assert.Contains("not a step", JsonDocument.Parse(poison!.Body).RootElement.GetProperty("reason").GetString());
            await poison.CompleteAsync(default);
        }
        var empty = await RunJobAsync();
        Assert.Equal((0, true), (empty.ExitCode, empty.Error.Contains("empty", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_held_message_stays_hidden_while_work_lasts_longer_than_its_visibility()
    {
        var queue = StepQueue.Connect(azurite.ConnectionString, "renewal");
        await queue.SendAsync("work", default);
        await using (var held = await queue.TryTakeAsync(TimeSpan.FromSeconds(2), default))
        {
            await Task.Delay(TimeSpan.FromSeconds(5));
            Assert.Null(await queue.TryTakeAsync(TimeSpan.FromSeconds(2), default));
            Assert.False(held!.Lost.IsCancellationRequested);
        }
        await using var again = await queue.TryTakeAsync(TimeSpan.FromSeconds(2), default);
        Assert.Equal(("work", 2L), (again!.Body, again.Deliveries));
        await again.CompleteAsync(default);
        Assert.Null(await queue.TryTakeAsync(TimeSpan.FromSeconds(2), default));
    }

    [Fact]
    public async Task A_step_that_kills_every_job_is_answered_as_failed_and_set_aside()
    {
        var store = azurite.Store();
        await store.EnsureContainersAsync(["work"], default);
        var queue = StepQueue.Connect(azurite.ConnectionString, "hopeless");
        var step = new GpuStep(
            "run",
            "work/hopeless",
            "gpu-x-1",
            nameof(CompressLayer),
            JsonSerializer.SerializeToElement(new CompressInput("work/hopeless", "work/layers", 0, "0123", 0), Json.Options),
            "hopeless-answers"
        );
        await queue.SendAsync(JsonSerializer.Serialize(step, Json.Options), default);
        for (var i = 0; i < GpuWorker.MaxDeliveries; i++)
            await (await queue.TryTakeAsync(TimeSpan.FromSeconds(30), default))!.DisposeAsync();
        var outcome = await GpuWorker.RunOneAsync(
            queue,
            (_, _, _) => throw new InvalidOperationException("never run"),
            store,
            "cpu",
            TimeSpan.FromSeconds(30),
            default
        );
        Assert.Equal(GpuOutcome.SetAside, outcome);
        await using var answer = await queue.Sibling("hopeless-answers").TryTakeAsync(TimeSpan.FromSeconds(30), default);
        var told = JsonSerializer.Deserialize<GpuAnswer>(answer!.Body, Json.Options)!;
        Assert.Equal(("run", "gpu-x-1", false), (told.RunId, told.Event, told.BadInput));
        Assert.Contains("never ended", told.Error);
        Assert.NotNull(await queue.Sibling("hopeless-poison").TryTakeAsync(TimeSpan.FromSeconds(1), default));
    }

    [Theory]
    [InlineData("not base64!", "not Base64")]
    [InlineData("large", "not JSON")]
    [InlineData("clear", "runs on a GPU")]
    [InlineData("queue", "answerTo")]
    public async Task What_cannot_be_run_is_set_aside_at_once_and_nothing_is_done(string message, string why)
    {
        var store = azurite.Store();
        await store.EnsureContainersAsync(["work"], default);
        await store.WriteBytesAsync("work/precious/x", new byte[] { 1 }, default);
        var name = $"odd-{(message.Contains(' ') ? "base" : message)}";
        var body = message switch
        {
            // As large as a message may be.
            "large" => new string('"', 49152),
            "clear" => JsonSerializer.Serialize(
                new GpuStep(
                    "r",
                    "work/r",
                    "e",
                    nameof(ClearWork),
                    JsonSerializer.SerializeToElement(new ClearInput("work/precious"), Json.Options),
                    null
                ),
                Json.Options
            ),
            _ => JsonSerializer.Serialize(Step("work/r") with { AnswerTo = "No Queue!" }, Json.Options),
        };
        var client = new Azure.Storage.Queues.QueueClient(azurite.ConnectionString, name);
        await client.CreateIfNotExistsAsync();
        await client.SendMessageAsync(
            message == "not base64!" ? message : Convert.ToBase64String(System.Text.Encoding.UTF8.GetBytes(body))
        );
        var queue = StepQueue.Connect(azurite.ConnectionString, name);
        Assert.Equal(
            GpuOutcome.SetAside,
            await GpuWorker.RunOneAsync(
                queue,
                (_, _, _) => throw new InvalidOperationException("never run"),
                store,
                "cpu",
                TimeSpan.FromSeconds(30),
                default
            )
        );
        await using var poison = await queue.Poison.TryTakeAsync(TimeSpan.FromSeconds(30), default);
        Assert.Contains(why, JsonDocument.Parse(poison!.Body).RootElement.GetProperty("reason").GetString());
        Assert.Null(await queue.TryTakeAsync(TimeSpan.FromSeconds(1), default));
        Assert.NotNull(await store.FindAsync("work/precious/x", default));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_step_whose_answer_can_never_be_kept_or_sent_is_set_aside_after_the_limit(bool keepFails)
    {
        using var folder = new Folder();
        folder.Write("file", [1]);
        // Under a file no folder can be made.
        var store = new FolderStore(
            new Dictionary<string, string> { ["work"] = Path.Combine(folder.Path, keepFails ? "file/work" : "work") }
        );
        var queue = StepQueue.Connect(azurite.ConnectionString, $"unsendable-{(keepFails ? "a" : "b")}");
        await queue.SendAsync(JsonSerializer.Serialize(Step("work/x") with { AnswerTo = "unsendable-answers" }, Json.Options), default);
        // Too large to be sent.
        var output = JsonSerializer.SerializeToElement(new string('x', keepFails ? 1 : 100_000));
        for (var i = 0; i < GpuWorker.MaxDeliveries; i++)
            await Assert.ThrowsAnyAsync<Exception>(() =>
                GpuWorker.RunOneAsync(queue, (_, _, _) => Task.FromResult(output), store, "cpu", TimeSpan.FromSeconds(30), default)
            );
        Assert.Equal(
            GpuOutcome.SetAside,
            await GpuWorker.RunOneAsync(queue, (_, _, _) => Task.FromResult(output), store, "cpu", TimeSpan.FromSeconds(30), default)
        );
        await using var poison = await queue.Poison.TryTakeAsync(TimeSpan.FromSeconds(30), default);
        Assert.Contains("could not be kept or sent", JsonDocument.Parse(poison!.Body).RootElement.GetProperty("reason").GetString());
    }

    [Fact]
    public async Task An_account_that_refuses_and_a_wrong_option_are_one_sentence()
    {
        var refused = await RunJobAsync(
            "5",
            azurite.ConnectionString.Replace("AccountKey=Eby8", "AccountKey=Fby8", StringComparison.Ordinal)
        );
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("name and key", refused.Sentence);
        Assert.DoesNotContain("Fby8", refused.Error);
        var odd = await RunJobAsync("0", azurite.ConnectionString);
        Assert.Equal((2, "--visibility: give 2 to 604800 seconds."), (odd.ExitCode, odd.Sentence));
    }

    private static GpuStep Step(string work) =>
        new(
            "run",
            work,
            "gpu-x-1",
            nameof(CompressLayer),
            JsonSerializer.SerializeToElement(new CompressInput(work, "work/layers", 0, "0123", 0), Json.Options),
            null
        );

    // Kills a job when it says that it runs; true when it had not answered by then.
    private async Task<bool> KillMidwayAsync(BlobStore store)
    {
        var before = await AnswersAsync(store);
        for (var i = 0; i < 60; i++)
        {
            using var job = Start("2");
            while (await job.StandardError.ReadLineAsync() is { } line)
            {
                if (!line.StartsWith("Running", StringComparison.Ordinal))
                    continue;
                job.Kill();
                await job.WaitForExitAsync();
                return await AnswersAsync(store) == before;
            }
            await Task.Delay(200);
        }
        throw new TimeoutException("no step came");
    }

    private static async Task<int> AnswersAsync(BlobStore store)
    {
        var count = 0;
        await foreach (var a in store.ListAsync("work/", default))
            if (a.Path.Contains("/events/", StringComparison.Ordinal))
                count++;
        return count;
    }

    private async Task<CommandLine.Outcome> RunJobAsync(string visibility = "5", string? storage = null)
    {
        using var job = Start(visibility, storage);
        var (output, error) = (job.StandardOutput.ReadToEndAsync(), job.StandardError.ReadToEndAsync());
        await job.WaitForExitAsync();
        return new CommandLine.Outcome(job.ExitCode, await output, await error);
    }

    private Process Start(string visibility, string? storage = null)
    {
        var start = new ProcessStartInfo("dotnet", [Program, "--visibility", visibility])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["SERVERLESS_STORAGE"] = storage ?? azurite.ConnectionString;
        return Process.Start(start)!;
    }
}
