using Serverless.Core.Allocation;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>A choice for each layer.</summary>
/// <param name="LeastLevel">No layer is treated more strongly.</param>
/// <param name="Chosen">Index of each layer's choice.</param>
/// <param name="Bytes">Bytes of the model.</param>
/// <param name="Loss">What the outputs are predicted to lose: their squared relative error.</param>
internal sealed record AllocationCandidate(double LeastLevel, int[] Chosen, long Bytes, double Loss);

/// <summary>The layers whose settings are open, the bytes and the loss of each choice, and the model around them.</summary>
internal sealed class AllocationSpace
{
    private const int MostFits = 7,
        DrawnSteps = 2000;
    private const double CloseEnough = 0.001;
    private readonly ModelProto graph;
    private readonly Recipe recipe;
    private readonly long saved;
    private readonly IReadOnlyList<LayerSensitivity> measured;
    private readonly Lazy<long> referenceBytes;

    private AllocationSpace(
        ModelProto graph,
        Recipe recipe,
        IReadOnlyList<LayerTask> tasks,
        IReadOnlyList<LayerSensitivity> measured,
        RunCost cost
    )
    {
        (this.graph, this.recipe) = (graph, recipe);
        Open = [.. tasks.Where(t => t.Choices.Count > 0)];
        // Layers whose settings a rule fixes.
        saved = tasks.Where(t => t.Choices.Count == 0 && t.Plan is not null).Sum(t => t.Data.Length - SparseLayers.Planned(t.Chain, t));
        Reference = [.. Open.Select(t => From(t, t.Choices[0].Reference))];
        this.measured = measured = UnreachedLayers.LikeTheOthers(measured, Reference);
        referenceBytes = new Lazy<long>(() => Weigh(Reference));
        var reference = Reference.Select((c, i) => measured[i].Losses[c]).ToList();
        ScoreScale = reference.Sum(l => l.Scores) is > 0 and var scores ? reference.Sum(l => l.Outputs) / scores : 0;
        var macs = cost.Of(graph);
        long Macs(LayerTask task, IEnumerable<PlannedStep> chain) => RunCost.After(macs[task.Name], task.Shape.Elements, chain);
        Items =
        [
            .. measured.Select(
                (m, i) =>
                    m
                        .Losses.Select(
                            (l, c) =>
                                new KnapsackChoice(
                                    m.Made.Count == 0 ? Open[i].Data.Length : Bytes(Open[i], Open[i].Choices[c], m.Made[c].Layer),
                                    l.Together(ScoreScale)
                                )
                                {
                                    Cost = Macs(Open[i], m.Made.Count == 0 ? [] : Open[i].Choices[c].Chain),
                                }
                        )
                        .ToList()
            ),
        ];
        // A chain whose choices all cost the same has nothing to choose by cost.
        if (recipe.Budget?.MaxMacRatio is { } ratio && Items.Any(i => i.Any(c => c.Cost != i[0].Cost)))
            MostMacs = Math.Max(
                Items.Sum(i => i.Min(c => c.Cost)),
                (long)(ratio * cost.MultiplyAccumulates)
                    - MultiplyAccumulates.Total(
                        tasks.Where(t => t.Choices.Count == 0).Select(t => Macs(t, t.Chain)).Append(macs[MultiplyAccumulates.Computed])
                    )
            );
    }

    /// <summary>
    /// Multiply-accumulates of the layers together at most: the recipe's, or the fewest that there are where that is more; null where they
    /// are not limited.
    /// </summary>
    public long? MostMacs { get; }

    /// <summary>Bytes of the model at the gentlest settings.</summary>
    public long LargestBytes => Weigh([.. Open.Select(t => t.Choices.Count - 1)]);

    /// <summary>The layers.</summary>
    public IReadOnlyList<LayerTask> Open { get; }

    /// <summary>Bytes and predicted loss of each layer's choices.</summary>
    public IReadOnlyList<IReadOnlyList<KnapsackChoice>> Items { get; }

    /// <summary>Error of the outputs for one of the scores behind them, at the reference.</summary>
    public double ScoreScale { get; }

    /// <summary>The reference throughout: 4 bits.</summary>
    public int[] Reference { get; }

    /// <summary>Bytes of the model at the reference.</summary>
    public long ReferenceBytes => referenceBytes.Value;

    /// <summary>The levels that layers may have.</summary>
    public IReadOnlyList<double> Levels => [.. Open.SelectMany(t => t.Choices).Select(c => c.Level).Distinct().Order()];

    /// <summary>Layers whose effect on the outputs was measured.</summary>
    public int Measured => measured.Count(m => m.Measured > 0);

    /// <summary>Reads what was measured.</summary>
    public static async Task<AllocationSpace> ReadAsync(
        IArtifactStore store,
        RunRequest request,
        IReadOnlyList<LayerTask> tasks,
        Recipe recipe,
        CancellationToken cancellation
    )
    {
        var measured = new List<LayerSensitivity>();
        foreach (var together in tasks.Where(t => t.Choices.Count > 0).GroupBy(t => t.Index / MeasureLayers.Most * MeasureLayers.Most))
            measured.AddRange(
                await store.ReadJsonAsync<IReadOnlyList<LayerSensitivity>>(
                    RunPaths.Sensitivities(request.State, together.Key),
                    cancellation
                )
            );
        var cost = await RunCost.ReadAsync(store, request.Work, cancellation);
        return new AllocationSpace(await ModelState.GraphAsync(store, request, cancellation), recipe, tasks, measured, cost);
    }

    /// <summary>The encodings of a choice; layers that cannot be compressed are left out.</summary>
    public IReadOnlyList<(string Name, StoredLayer Stored)> Layers(int[] chosen) =>
        [
            .. chosen
                .Select((c, i) => (i, c))
                .Where(x => measured[x.i].Made.Count > 0)
                .Select(x => (Open[x.i].Name, measured[x.i].Made[x.c])),
        ];

    /// <summary>Bytes of the model with a choice in place, as it would be written: with its weights in the place of references.</summary>
    public long Weigh(int[] chosen)
    {
        var model = graph.Clone();
        StoredLayers.Put(model, Layers(chosen));
        Reassemble.Finish(model, recipe);
        long payload = 0;
        foreach (
            var (tensor, place) in ModelIndex
                .Tensors(model)
                .Where(t => t.Tensor.DataLocation == TensorProto.Types.DataLocation.External)
                .ToList()
        )
        {
            var length = TensorRef.From(tensor, place).Length;
            tensor.ExternalData.Clear();
            tensor.ClearDataLocation();
            var around = tensor.CalculateSize();
            var raw = 1 + Varint(length) + length;
            payload += raw + Varint(around + raw) - Varint(around);
        }
        return model.CalculateSize() + payload - saved - Unwritten(chosen);

        // Bytes of a number in protobuf.
        static int Varint(long value) => Google.Protobuf.CodedOutputStream.ComputeUInt64Size((ulong)value);
    }

    /// <summary>
    /// The best choices of a size at most, without and with a least level for all layers; the first is the best as
    /// predicted, or the smallest of all where none fits.
    /// </summary>
    /// <param name="target">Bytes of the model.</param>
    public IReadOnlyList<AllocationCandidate> Fit(long target)
    {
        var found = new List<AllocationCandidate>();
        foreach (var level in Levels)
            if (Fit(level, target, null) is { } s)
                found.Add(s);
        // One level throughout, the gentlest that fits.
        if (
            Levels
                .Select(level => Candidate(level, [.. Open.Select(t => From(t, level))]))
                .LastOrDefault(u => u.Bytes <= target && KeepsMacs(u)) is
            { } uniform
        )
            found.Add(uniform);
        if (found.Count == 0)
            found.Add(Candidate(0, Knapsack.Least(Items, Items.Sum(i => i.Min(c => c.Bytes)))!.Chosen));
        return [.. found.DistinctBy(f => string.Join(',', f.Chosen))];
    }

    /// <summary>A choice with its figures.</summary>
    public AllocationCandidate Candidate(double leastLevel, int[] chosen) =>
        new(leastLevel, chosen, Weigh(chosen), chosen.Select((c, i) => Items[i][c].Loss).Sum());

    /// <summary>
    /// The best choice of a size at most, or null when none fits. What lies around the layers depends on the choice: it is
    /// solved, weighed, and solved again for the bytes that were off.
    /// </summary>
    /// <param name="leastLevel">No layer has fewer, where it has the choice.</param>
    /// <param name="target">Bytes of the model.</param>
    /// <param name="weights">What the predicted loss of each layer is multiplied by; null for 1.</param>
    public AllocationCandidate? Fit(double leastLevel, long target, double[]? weights)
    {
        AllocationCandidate? best = null;
        var least = double.PositiveInfinity;
        var from = Open.Select(t => From(t, leastLevel)).ToList();
        IReadOnlyList<IReadOnlyList<KnapsackChoice>> items =
        [
            .. Items.Select((c, i) => c.Skip(from[i]).Select(x => x with { Loss = x.Loss * (weights?[i] ?? 1) }).ToList()),
        ];
        var (smallest, largest) = (items.Sum(i => i.Min(c => c.Bytes)), items.Sum(i => i.Max(c => c.Bytes)));
        var room = Math.Max(smallest, target - ReferenceBytes + Reference.Select((c, i) => Items[i][c].Bytes).Sum());
        var (fits, exceeds) = (smallest - 1, long.MaxValue);
        for (var i = 0; i < MostFits; i++)
        {
            if (JointKnapsack.Least(items, room, MostMacs, weights is null ? Knapsack.Steps : DrawnSteps) is not { } found)
                break;
            var candidate = Candidate(leastLevel, [.. found.Chosen.Select((c, layer) => c + from[layer])]);
            var off = candidate.Bytes - target;
            if (off <= 0 && found.Loss < least)
                (best, least) = (candidate, found.Loss);
            if (off <= 0 && -off <= CloseEnough * target)
                break;
            if (off > 0 && room == smallest)
                break;
            (fits, exceeds) = off <= 0 ? (room, exceeds) : (fits, room);
            var next = Math.Max(smallest, room - off);
            room = next > fits && next < exceeds ? next : fits + (exceeds - fits) / 2;
            if (room == fits || exceeds == long.MaxValue && room >= largest)
                break;
        }
        return best;
    }

    private static long Bytes(LayerTask task, LayerChoice choice, EncodedLayer made) =>
        SparseLayers.Made(task, choice.Chain, made) + choice.Last.Plan.NodeBytes;

    // What a sparse form saves of layers that a later chain takes as dense.
    private long Unwritten(int[] chosen) =>
        chosen
            .Select((c, i) => (Choice: c, Layer: i))
            .Where(x => measured[x.Layer].Made.Count > 0)
            .Sum(x =>
            {
                var made = measured[x.Layer].Made[x.Choice].Layer;
                return made.Bytes - SparseLayers.Made(Open[x.Layer], Open[x.Layer].Choices[x.Choice].Chain, made);
            });

    private bool KeepsMacs(AllocationCandidate candidate) =>
        MostMacs is not { } most || MultiplyAccumulates.Total(candidate.Chosen.Select((c, i) => Items[i][c].Cost)) <= most;

    private static int From(LayerTask task, double level) =>
        Math.Min(task.Choices.TakeWhile(c => c.Level < level).Count(), task.Choices.Count - 1);
}
