using System.Diagnostics;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>The host's side of the process that runs models.</summary>
public class ModelProcessTests
{
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
        var process = new ModelProcess(new StoreSpec(new Dictionary<string, string>()), new MemoryGate(1 << 30))
        {
            Program = asleep,
            Patience = TimeSpan.FromMilliseconds(200),
        };
        var failure = await Assert.ThrowsAsync<ModelLimitException>(() =>
            process.RunAsync<Dictionary<string, string>, string>("Evaluate", [], default).WaitAsync(TimeSpan.FromSeconds(30))
        );
        Assert.Contains("took longer", failure.Message, StringComparison.Ordinal);
    }
}
