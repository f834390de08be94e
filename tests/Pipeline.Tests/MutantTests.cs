using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>300 mutants of real models: a result or one sentence. Benchmarks runs 4,000, all of them through the command line.</summary>
public class MutantTests
{
    private const int Count = 300,
        Seed = 3,
        OneInThisIsAProcess = 7;

    [Fact]
    public async Task Mutants_of_real_models_are_compressed_or_refused_in_a_sentence()
    {
        using var folder = new Folder();
        var models = MutantModels.All(large: false);
        var faults = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var codes = new int[4];
        await Parallel.ForEachAsync(
            Enumerable.Range(0, Count),
            async (number, _) =>
            {
                var (name, bytes) = number % 3 > 0 || models.Count == 1 ? models[0] : models[1 + (number / 3 % (models.Count - 1))];
                var mutant = Mutant.Make(name, bytes, Seed, number);
                var steps = MutantRun.Steps(number + (number / 3), bytes.Length);
                var program = typeof(RunDrop).Assembly.Location;
                var own = Directory.CreateDirectory(Path.Combine(folder.Path, number.ToString())).FullName;
                var ended =
                    number % OneInThisIsAProcess == 0
                        ? await MutantRun.RunAsync(program, own, mutant.Bytes, steps, load: true)
                        : await MutantRun.InProcessAsync(program, own, mutant.Bytes, steps, load: true);
                if (ended.Fault is not null)
                    faults.Enqueue(
                        $"{number}, {name}, {mutant.What}, {steps.Trim()}: exit {ended.ExitCode}, {ended.Fault}: {ended.Sentence}"
                    );
                else
                    Interlocked.Increment(ref codes[ended.ExitCode]);
            }
        );
        Assert.True(faults.IsEmpty, string.Join('\n', faults));
        Assert.True(codes[0] > Count / 4 && codes[2] > Count / 4, $"{codes[0]} compressed, {codes[2]} refused");
    }
}
