using Google.Protobuf;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// 220 mutants, 20 of them of real models and 200 of the digits and of a small model with a weight in every kind of place: a result
/// or one sentence. Benchmarks runs 10,000 of real models, all of them through the command line.
/// </summary>
public class MutantTests
{
    private const int Seed = 3,
        Large = 12,
        Small = 90,
        Damaged = 50,
        OneLargeInThisIsAProcess = 30,
        OneSmallInThisIsAProcess = 70,
        OneInThisIsTimed = 25;

    [Fact]
    public async Task Mutants_of_real_models_are_compressed_or_refused_in_a_sentence()
    {
        var models = MutantModels.All(large: false);
        await RunAsync(
            Enumerable.Range(0, Large),
            number => Make(number, number % 3 > 0 || models.Count == 1 ? models[0] : models[1 + (number / 3 % (models.Count - 1))]),
            number => number % OneLargeInThisIsAProcess == 0,
            Large / 4
        );
    }

    [Fact]
    public async Task Mutants_of_small_models_are_compressed_or_refused_in_a_sentence()
    {
        (string, byte[])[] models =
        [
            MutantModels.All(large: false)[0],
            ("everything, opset 11", Mutations.Everything(11).ToByteArray()),
            ("everything, opset 17", Mutations.Everything(17).ToByteArray()),
        ];
        await RunAsync(
            Enumerable.Range(Large, Small),
            number => Make(number, models[number % models.Length]),
            number => number % OneSmallInThisIsAProcess == 0,
            Small / 4
        );
    }

    // Bytes, and graphs behind whole bytes: those that Local.Tests gives to the command line, and more.
    [Fact]
    public async Task Damaged_models_are_compressed_or_refused_in_a_sentence()
    {
        var seed = Mutations.Everything(17).ToByteArray();
        await RunAsync(
            Enumerable.Range(0, Damaged),
            number => (new Mutant("everything", [], "damage", Mutations.Mutate(seed, new Random(number))), "- quantize: {bits: 8}\n"),
            _ => false,
            1
        );
    }

    private static (Mutant Mutant, string Steps) Make(int number, (string Name, byte[] Bytes) model) =>
        (Mutant.Make(model.Name, model.Bytes, Seed, number), MutantRun.Steps(number + (number / 3), model.Bytes.Length));

    private static async Task RunAsync(
        IEnumerable<int> numbers,
        Func<int, (Mutant Mutant, string Steps)> make,
        Func<int, bool> isAProcess,
        int least
    )
    {
        using var folder = new Folder();
        var faults = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var codes = new int[4];
        await Parallel.ForEachAsync(
            numbers,
            async (number, _) =>
            {
                var (mutant, steps) = make(number);
                if (number % OneInThisIsTimed > 0)
                    steps += "evaluate: {latency: false}\n";
                var program = typeof(RunDrop).Assembly.Location;
                var own = Directory.CreateDirectory(Path.Combine(folder.Path, number.ToString())).FullName;
                var ended = isAProcess(number)
                    ? await MutantRun.RunAsync(program, own, mutant.Bytes, steps, load: true)
                    : await MutantRun.InProcessAsync(program, own, mutant.Bytes, steps, load: true);
                if (ended.Fault is not null)
                    faults.Enqueue(
                        $"{number}, {mutant.Model}, {mutant.What}, {steps.Trim()}: exit {ended.ExitCode}, {ended.Fault}: {ended.Sentence}"
                    );
                else
                    Interlocked.Increment(ref codes[ended.ExitCode]);
            }
        );
        Assert.True(faults.IsEmpty, string.Join('\n', faults));
        Assert.True(codes[0] >= least && codes[2] >= least, $"{codes[0]} compressed, {codes[2]} refused");
    }
}
