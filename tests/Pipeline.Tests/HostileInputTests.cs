using System.Diagnostics;
using Google.Protobuf;
using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>Mutated models: a result or one sentence, never anything else.</summary>
[Collection("alone")]
public class HostileInputTests
{
    /// <summary>Memory is measured here, which is the whole process's: nothing else may run.</summary>
    [CollectionDefinition("alone", DisableParallelization = true)]
    public class Alone;

    [Fact]
    public async Task Ten_thousand_mutated_models_pass_or_are_refused()
    {
        var seeds = new[] { Mutations.Everything(11).ToByteArray(), Mutations.Everything(17).ToByteArray() };
        var random = new Random(7);
        var (refused, passed) = (0, 0);
        var (before, most) = (Held(), 0L);
        // Drawn one after the other, as long as they are taken one at a time.
        var mutants = Enumerable.Range(0, 10_000).Select(i => (Number: i, Bytes: Mutations.Mutate(seeds[i % seeds.Length], random)));
        await Parallel.ForEachAsync(
            mutants,
            async (mutant, _) =>
            {
                using var folder = new Folder();
                folder.Write("drop/m.onnx", mutant.Bytes);
                var clock = Stopwatch.StartNew();
                try
                {
                    await WithoutRunningAsync(folder, mutant.Number);
                    Interlocked.Increment(ref passed);
                }
                catch (BadInputException e)
                {
                    Assert.DoesNotContain('\n', e.Message);
                    Assert.True(e.Message.Length is > 20 and < 600, e.Message);
                    Interlocked.Increment(ref refused);
                }
                catch (Exception e) when (e is not BadInputException)
                {
                    File.WriteAllBytes(Path.Combine(TestFolders.Kept, "serverless-fuzz.onnx"), mutant.Bytes);
                    throw new InvalidOperationException(
                        $"Mutation {mutant.Number}, kept as serverless-fuzz.onnx in the temporary folder.",
                        e
                    );
                }
                Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), $"mutation {mutant.Number} took {clock.Elapsed}");
                lock (seeds)
                    most = Math.Max(most, Held() - before);
            }
        );
        Assert.True(most < 1L << 30, $"{most >> 20} MB");
        Assert.True(refused > 1000 && passed > 100, $"{refused} refused, {passed} passed");
    }

    private static long Held()
    {
        using var self = Process.GetCurrentProcess();
        return self.WorkingSet64;
    }

    /// <summary>
    /// Inspect, plan, compress and reassemble, in this process; ONNX Runtime's own robustness is the child process's affair.
    /// </summary>
    private static async Task WithoutRunningAsync(Folder folder, int run)
    {
        var store = new FolderStore(
            new Dictionary<string, string> { ["drop"] = Path.Combine(folder.Path, "drop"), ["work"] = Path.Combine(folder.Path, "work") }
        );
        var context = new Core.Runs.ActivityContext(store, new MemoryGate(256 << 20));
        var request = new RunRequest("m", "drop/m.onnx", null, null, $"work/{run}", $"work/{run}/layers", "work/out");
        await new Inspect().RunAsync(new InspectInput(request), context, default);
        var planned = await new Plan().RunAsync(new StateInput(request), context, default);
        for (var i = 0; i < planned.Layers; i += LayerRecords.ResultsTogether)
        {
            var results = new List<LayerResult>();
            for (var j = i; j < Math.Min(i + LayerRecords.ResultsTogether, planned.Layers); j++)
                results.Add(
                    await new CompressLayer().RunAsync(
                        new CompressInput(request.Work, request.Shards, 0, planned.Tasks, j),
                        context,
                        default
                    )
                );
            await new RecordLayers().RunAsync(new RecordInput(request.Work, 0, results), context, default);
        }
        await new Reassemble().RunAsync(new ReassembleInput(request, 0, new RunParts([], [])), context, default);
    }
}
