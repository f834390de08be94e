using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques.Search;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="ChooseWidths"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt to plan.</param>
/// <param name="BytesBefore">Size of the original.</param>
/// <param name="Excess">Bytes by which earlier attempts were larger than foreseen.</param>
/// <param name="Tighter">Factor on the loss that is allowed to be predicted, from what earlier attempts lost.</param>
public sealed record ChooseInput(RunRequest Request, int Attempt, long BytesBefore, long Excess, double Tighter);

/// <summary>A point of the curve of size and loss.</summary>
/// <param name="SizeRatio">Foreseen size over the original's.</param>
/// <param name="RelativeError">Predicted relative error of the outputs.</param>
public sealed record WidthPoint(double SizeRatio, double RelativeError);

/// <summary>How widths were chosen.</summary>
/// <param name="Curve">The least error at each size.</param>
/// <param name="Chosen">The point taken.</param>
/// <param name="LowerBound">No choice of that size is predicted to have a smaller error.</param>
/// <param name="LayersMeasured">Layers whose effect on the outputs was measured; of the others it is estimated from their weights.</param>
public sealed record WidthChoice(IReadOnlyList<WidthPoint> Curve, WidthPoint Chosen, double LowerBound, int LayersMeasured);

/// <summary>
/// Chooses the width of each layer: least predicted loss within maxSizeRatio, else fewest bytes within maxAccuracyLoss, else
/// least loss in the bytes of 4 bits throughout (<see cref="Knapsack"/>). Losses of layers add up as squared errors do.
/// </summary>
public sealed class ChooseWidths : Activity<ChooseInput, Planned>
{
    private const int CurvePoints = 24, ReferenceBits = 4;

    /// <inheritdoc/>
    public override async Task<Planned> RunAsync(ChooseInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var tasks = (await LayerRecords.TasksAsync(store, request.Work, 0, cancellation)).ToList();
        var open = tasks.Where(t => t.Choices.Count > 0).ToList();
        var measured = new List<LayerSensitivity>();
        foreach (var t in open) measured.Add(await store.ReadJsonAsync<LayerSensitivity>(RunNames.Sensitivity(request.Work, t.Index), cancellation));
        var items = measured.Select(m => m.Choices).ToList();
        var others = await AroundAsync(store, request, recipe.Whole.Simplify.Names, cancellation)
            - open.Sum(t => t.Data.Length) - tasks.Where(t => t.Choices.Count == 0 && t.Plan is not null).Sum(t => t.Data.Length - t.Plan!.BytesAfter);
        long? budget = recipe.Budget?.MaxSizeRatio is { } ratio ? (long)(ratio * input.BytesBefore) - others - input.Excess : null;
        // For small errors 1 − cosine is half the squared relative error.
        var solution = budget is { } bytes ? Knapsack.Least(items, Math.Max(bytes, items.Sum(i => i.Min(c => c.Bytes))))!
            : recipe.Budget?.MaxAccuracyLoss is { } loss ? Knapsack.Smallest(items, 2 * loss * input.Tighter)
            : Knapsack.Least(items, open.Zip(items).Sum(p => p.Second[Reference(p.First)].Bytes))!;
        WidthPoint Point(KnapsackSolution s) => new((double)(others + s.Bytes) / input.BytesBefore, Math.Sqrt(s.Loss));
        await store.WriteJsonAsync(RunNames.Widths(request.Work, input.Attempt), new WidthChoice(
            [.. Knapsack.Curve(items, CurvePoints).Select(Point)], Point(solution), Math.Sqrt(Math.Max(0, solution.LowerBound)), measured.Count(m => m.Measured > 0)), cancellation);
        for (var i = 0; i < open.Count; i++)
        {
            var choice = open[i].Choices[solution.Chosen[i]];
            tasks[open[i].Index] = open[i] with { Step = choice.Step, Plan = choice.Plan };
        }
        await LayerRecords.WriteTasksAsync(store, request.Work, input.Attempt, [.. tasks.Select(t => input.Attempt == 0 ? t : t with { Choices = [] })], cancellation);
        return Plan.Summary(tasks) with { Mixed = true };
    }

    // The tidied model as it would be written: its graph, less the references in the place of weights, and its weights.
    private static async Task<long> AroundAsync(IArtifactStore store, RunRequest request, NameStyle names, CancellationToken cancellation)
    {
        var model = ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunNames.Graph(request.Work), int.MaxValue, cancellation));
        if (names == NameStyle.Short) Reassemble.ShortenWhereWorthwhile(model);
        var external = ModelIndex.Tensors(model).Where(t => t.Tensor.DataLocation == TensorProto.Types.DataLocation.External).ToList();
        return model.CalculateSize() + external.Sum(t => TensorRef.From(t.Tensor, t.Place).Length - t.Tensor.ExternalData.Sum(e => e.CalculateSize() + 2));
    }

    private static int Reference(LayerTask task)
    {
        var at = task.Choices.TakeWhile(c => c.Plan.Bits < ReferenceBits).Count();
        return Math.Min(at, task.Choices.Count - 1);
    }
}
