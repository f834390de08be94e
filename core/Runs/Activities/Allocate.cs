using Serverless.Core.Allocation;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Allocate"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt to plan.</param>
/// <param name="BytesBefore">Size of the original.</param>
/// <param name="Excess">Bytes by which earlier attempts were larger than foreseen.</param>
/// <param name="Tighter">Factor on the loss that is allowed to be predicted, from what earlier attempts lost.</param>
public sealed record AllocateInput(RunRequest Request, int Attempt, long BytesBefore, long Excess, double Tighter);

/// <summary>A point of the curve of size and loss.</summary>
/// <param name="SizeRatio">Foreseen size over the original's.</param>
/// <param name="RelativeError">Predicted relative error of the outputs.</param>
public sealed record AllocationPoint(double SizeRatio, double RelativeError);

/// <summary>A choice that was tried on the model itself.</summary>
/// <param name="LeastLevel">No layer is treated more strongly.</param>
/// <param name="Predicted">Its size and predicted error.</param>
/// <param name="RelativeError">Relative error of the outputs, on samples that techniques see.</param>
public sealed record AllocationTried(double LeastLevel, AllocationPoint Predicted, double RelativeError);

/// <summary>How settings were chosen.</summary>
/// <param name="Curve">The least error at each size.</param>
/// <param name="Chosen">The point taken.</param>
/// <param name="LowerBound">No choice of that size is predicted to have a smaller error.</param>
/// <param name="LayersMeasured">Layers whose effect on the outputs was measured; of the others it is estimated from their weights.</param>
/// <param name="Tried">The choices that were compared on the model, best first; none where it is too large.</param>
public sealed record AllocationChoice(
    IReadOnlyList<AllocationPoint> Curve,
    AllocationPoint Chosen,
    double LowerBound,
    int LayersMeasured,
    IReadOnlyList<AllocationTried> Tried
)
{
    /// <summary>The figures that the report has of a chain before the last.</summary>
    internal object Figures =>
        new
        {
            Chosen.SizeRatio,
            Chosen.RelativeError,
            LowerBound,
            LayersMeasured,
            Tried = Tried.Count,
        };
}

/// <summary>
/// Chooses the settings of each layer: least predicted loss within maxSizeRatio, else fewest bytes within maxAccuracyLoss, else
/// least loss in the bytes of the reference throughout, as 4 bits are; the last for a chain that others follow, too
/// (<see cref="Knapsack"/>). Where choices differ in multiply-accumulates, every chain keeps maxMacRatio beside these
/// (<see cref="JointKnapsack"/>), and the reference limits no bytes. Losses of layers add up as squared errors do, which
/// holds less the larger they are; so the same is solved with no layer below 3 bits, 4 bits and so on, as far as the
/// bytes reach, one level throughout is put beside them, and from there the best on the model itself is searched (<see
/// cref="AllocationSearch"/>).
/// </summary>
public sealed class Allocate : Activity<AllocateInput, Planned>, IRunsModels
{
    private const int CurvePoints = 24,
        Small = 8 << 20,
        Decisions = 1280;

    /// <inheritdoc/>
    public override async Task<Planned> RunAsync(AllocateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var tasks = (await LayerRecords.TasksAsync(store, request.State, 0, cancellation)).ToList();
        var space = await AllocationSpace.ReadAsync(store, request, tasks, recipe, cancellation);
        // The budget of size and loss is that of the whole recipe: the last steps on layers keep it.
        var budget = StepSequence.LayersEndWithin(recipe.Steps, request.Stage) ? recipe.Budget : null;
        // For small errors 1 − cosine is half the squared relative error.
        var byLoss = budget is { MaxSizeRatio: null, MaxAccuracyLoss: { } loss }
            ? space.Candidate(0, Knapsack.Smallest(space.Items, 2 * loss * input.Tighter, space.MostMacs).Chosen)
            : null;
        var target = budget?.MaxSizeRatio is { } ratio
            ? (long)(ratio * input.BytesBefore) - input.Excess
            : byLoss?.Bytes ?? (space.MostMacs is null ? space.ReferenceBytes : space.LargestBytes);
        IReadOnlyList<AllocationCandidate> found = byLoss is null ? space.Fit(target) : [byLoss];
        var tried = await TryAsync(store, request, space, found, target, cancellation);
        var best = tried.Count > 0 ? tried[0].Candidate : found[0];
        AllocationPoint Point(AllocationCandidate c) => new((double)c.Bytes / input.BytesBefore, Math.Sqrt(c.Loss));
        var around = best.Bytes - best.Chosen.Select((c, i) => space.Items[i][c].Bytes).Sum();
        await store.WriteJsonAsync(
            RunPaths.Allocation(request.State, input.Attempt),
            new AllocationChoice(
                [
                    .. Knapsack
                        .Curve(space.Items, CurvePoints)
                        .Select(s => new AllocationPoint((double)(around + s.Bytes) / input.BytesBefore, Math.Sqrt(s.Loss))),
                ],
                Point(best),
                Math.Sqrt(Math.Max(0, JointKnapsack.Least(space.Items, best.Bytes - around, space.MostMacs)?.LowerBound ?? 0)),
                space.Measured,
                [.. tried.Select(t => new AllocationTried(t.Candidate.LeastLevel, Point(t.Candidate), Math.Sqrt(t.Loss.Outputs)))]
            ),
            cancellation
        );
        for (var i = 0; i < space.Open.Count; i++)
        {
            tasks[space.Open[i].Index] = space.Open[i].Choices[best.Chosen[i]].Of(space.Open[i]);
        }
        var hash = await LayerRecords.WriteTasksAsync(
            store,
            request.State,
            input.Attempt,
            [.. tasks.Select(t => input.Attempt == 0 ? t : t with { Choices = [] })],
            cancellation
        );
        return LayerTasks.Summary(tasks) with { Tasks = hash, Open = true };
    }

    private static async Task<IReadOnlyList<AllocationTrial>> TryAsync(
        IArtifactStore store,
        RunRequest request,
        AllocationSpace space,
        IReadOnlyList<AllocationCandidate> found,
        long target,
        CancellationToken cancellation
    )
    {
        if (found.Count == 1 || space.Measured == 0)
            return [];
        using var original = await ModelTrial.OpenAsync(
            store,
            request,
            found[0].Bytes < Small ? ModelTrial.MostRuns : ModelTrial.MostRuns / 2,
            Decisions,
            cancellation
        );
        return await new AllocationSearch(space, target, c => original.LossAsync(space.Layers(c.Chosen), cancellation)).RunAsync(
            found,
            Rounds(found[0].Bytes)
        );
    }

    // As many as take minutes, not hours.
    private static int Rounds(long bytes) =>
        bytes switch
        {
            < Small => 4,
            < 32 << 20 => 2,
            _ => 1,
        };
}
