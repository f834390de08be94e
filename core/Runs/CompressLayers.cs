using Serverless.Core.Recipes;

namespace Serverless.Core.Runs;

/// <summary>Some layers of an attempt.</summary>
/// <param name="Work">The run's work folder.</param>
/// <param name="Shards">Folder of compressed layers.</param>
/// <param name="Attempt">The attempt, from 0.</param>
/// <param name="Tasks">Hash of its tasks.</param>
/// <param name="From">The first layer.</param>
/// <param name="Count">How many.</param>
/// <param name="Placement">Where they are compressed.</param>
public sealed record LayersInput(string Work, string Shards, int Attempt, string Tasks, int From, int Count, StepPlacement Placement);

/// <summary>What became of them.</summary>
/// <param name="Count">Layers.</param>
/// <param name="BytesBefore">Bytes before.</param>
/// <param name="BytesSaved">Bytes saved.</param>
public sealed record LayersDone(int Count, long BytesBefore, long BytesSaved);

/// <summary>
/// The fan-out over layers, one activity each. A wide one is cut into parts, orchestrations of their own, so that no
/// history grows with the model: every replay reads its whole history.
/// </summary>
public sealed class CompressLayers : Orchestration<LayersInput, LayersDone>
{
    /// <summary>Layers that one orchestration fans out over; more are cut into parts of this many.</summary>
    public const int Widest = 100;

    /// <inheritdoc/>
    public override Task<LayersDone> RunAsync(IOrchestration host, LayersInput input) => FanOutAsync(host, input, input.Count, 0);

    /// <summary>Id of the part of an attempt that begins at a layer.</summary>
    public static string Part(string work, int attempt, int from) =>
        $"{work[(work.IndexOf('/') + 1)..].Replace('/', ':')}:{attempt}:{from}";

    /// <summary>The run that an orchestration is, or is a part of.</summary>
    public static string RunOf(string orchestration) =>
        orchestration.IndexOf(':') is var end and >= 0 ? orchestration[..end] : orchestration;

    /// <summary>Compresses layers, in parts when there are many.</summary>
    /// <param name="host">The orchestration.</param>
    /// <param name="input">The layers.</param>
    /// <param name="bytes">Bytes of them, for the status.</param>
    internal static async Task<LayersDone> RunAsync(IOrchestration host, LayersInput input, long bytes)
    {
        if (input.Count <= Widest)
            return await FanOutAsync(host, input, input.Count, bytes);
        var total = new Tally();
        Show(host, input, total.Sum, input.Count, bytes, null);
        await Task.WhenAll(
            Enumerable
                .Range(0, (input.Count + Widest - 1) / Widest)
                .Select(async i =>
                {
                    var from = input.From + (i * Widest);
                    var part = input with { From = from, Count = Math.Min(Widest, input.From + input.Count - from) };
                    var done = await host.CallPartAsync<CompressLayers, LayersInput, LayersDone>(
                        Part(input.Work, input.Attempt, from),
                        part
                    );
                    Show(host, input, total.Add(done), input.Count, bytes, null);
                })
        );
        return total.Sum;
    }

    private static async Task<LayersDone> FanOutAsync(IOrchestration host, LayersInput input, int count, long bytes)
    {
        var total = new Tally();
        Show(host, input, total.Sum, count, bytes, null);
        await Task.WhenAll(
            Enumerable
                .Range(input.From, input.Count)
                .Chunk(LayerRecords.ResultsTogether)
                .Select(async some =>
                {
                    var results = await Task.WhenAll(some.Select(CompressAsync));
                    await host.CallAsync<RecordLayers, RecordInput, LayersRecorded>(new RecordInput(input.Work, input.Attempt, results));
                })
        );
        return total.Sum;

        async Task<LayerResult> CompressAsync(int index)
        {
            var result = await GpuCall.RunAsync<CompressLayer, CompressInput, LayerResult>(
                host,
                input.Work,
                $"{input.Work[(input.Work.IndexOf('/') + 1)..].Replace('/', '-')}-{input.Attempt}-{index}",
                new CompressInput(input.Work, input.Shards, input.Attempt, input.Tasks, index),
                input.Placement
            );
            var layer = result.Figures;
            Show(host, input, total.Add(new LayersDone(1, layer.BytesBefore, layer.BytesBefore - layer.BytesAfter)), count, bytes, layer);
            return result with { Figures = layer with { Name = "" } };
        }
    }

    private static void Show(IOrchestration host, LayersInput input, LayersDone done, int count, long bytes, CompressedLayer? layer) =>
        host.SetStatus(
            new RunStatus(RunStatus.Compress, input.Attempt + 1, done.Count, count, done.BytesBefore, bytes, done.BytesSaved, layer)
            {
                Parts = count > Widest ? Part(input.Work, input.Attempt, 0)[..^1] : null,
            }
        );

    // On a host whose activities end on many threads, sums are kept under a lock.
    private sealed class Tally
    {
        private readonly Lock gate = new();

        public LayersDone Sum { get; private set; } = new(0, 0, 0);

        public LayersDone Add(LayersDone more)
        {
            lock (gate)
                return Sum = new LayersDone(Sum.Count + more.Count, Sum.BytesBefore + more.BytesBefore, Sum.BytesSaved + more.BytesSaved);
        }
    }
}
