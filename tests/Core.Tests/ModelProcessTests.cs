using System.Diagnostics;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>The host's side of the process that runs models.</summary>
public class ModelProcessTests
{
    private static readonly StoreSpec Nowhere = new(new Dictionary<string, string>());

    [Fact]
    public async Task A_child_that_is_frozen_is_ended_from_outside()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs sleep.");
        var asleep = new ProcessStartInfo("sleep", ["100"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = new ModelProcess(Nowhere, new MemoryGate(1 << 30))
        {
            Program = asleep,
            Patience = TimeSpan.FromMilliseconds(200),
        };
        var failure = await Assert.ThrowsAsync<ModelLimitException>(() =>
            process.RunAsync<Dictionary<string, string>, string>("Evaluate", [], default).WaitAsync(TimeSpan.FromSeconds(30))
        );
        Assert.Contains("took longer", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_child_serves_one_run_after_the_other_activity_and_no_other_run()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs a shell.");
        using var process = Shell("""while read line; do echo "{\"output\":$$,\"failure\":\"none\",\"waits\":true}"; done""");
        process.Begin();
        await Task.Delay(50, TestContext.Current.CancellationToken);
        var (first, again, other) = (
            await ServedByAsync(process, "work/a"),
            await ServedByAsync(process, "work/a"),
            await ServedByAsync(process, "work/b")
        );
        Assert.Equal(first, again);
        Assert.NotEqual(first, other);
        Assert.Equal(first, await ServedByAsync(process, "work/a"));
    }

    [Fact]
    public async Task A_child_that_ended_while_it_waited_is_replaced()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs a shell.");
        using var process = Shell("""read line; echo "{\"output\":$$,\"failure\":\"none\",\"waits\":true}" """);
        var first = await ServedByAsync(process, "work/a");
        while (Directory.Exists($"/proc/{first}") && !File.ReadAllText($"/proc/{first}/stat").Contains(") Z ", StringComparison.Ordinal))
            await Task.Delay(5, TestContext.Current.CancellationToken);
        await Task.Delay(50, TestContext.Current.CancellationToken);
        Assert.NotEqual(first, await ServedByAsync(process, "work/a"));
    }

    // An answer line that says it waits no longer is the last.
    [Fact]
    public async Task A_child_that_does_not_wait_is_not_asked_again()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs a shell.");
        using var process = Shell("""while read line; do echo "{\"output\":$$,\"failure\":\"none\",\"waits\":false}"; done""");
        Assert.NotEqual(await ServedByAsync(process, "work/a"), await ServedByAsync(process, "work/a"));
    }

    private static ModelProcess Shell(string script) =>
        new(Nowhere, new MemoryGate(1 << 30))
        {
            Program = new ProcessStartInfo("sh", ["-c", script])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            },
        };

    private static Task<int> ServedByAsync(ModelProcess process, string work) =>
        process.RunAsync<Dictionary<string, Dictionary<string, string>>, int>(
            "Evaluate",
            new() { ["request"] = new() { ["work"] = work } },
            default
        );
}
