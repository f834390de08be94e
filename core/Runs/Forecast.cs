using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>What a run would do with a layer.</summary>
/// <param name="Task">The layer as the last chain of steps sees it.</param>
/// <param name="Steps">Every step that it goes through, as reports name them.</param>
/// <param name="Rank">Rank of the product that it is a factor of, at most; or null.</param>
/// <param name="BytesBefore">Bytes of the original that it stands for.</param>
public sealed record ForecastLayer(LayerTask Task, IReadOnlyList<string> Steps, int? Rank, long BytesBefore)
{
    /// <summary>Multiply-accumulates with the layer afterwards, of a run of one sample; null where the run chooses.</summary>
    public long? MultiplyAccumulates { get; init; }

    /// <summary>Steps that do nothing with the layer, each with the reason.</summary>
    public IReadOnlyList<NotAppliedStep> NotApplied { get; init; } = [];

    /// <summary>Why the last chain does nothing with it, or null.</summary>
    public string? Reason { get; init; }

    /// <summary>Whether it is a factor of a product whose rank the run chooses, or finds in the weights.</summary>
    public bool OfOpenRank { get; init; }

    /// <summary>
    /// Whether the run chooses settings of the layer, by samples and the budget, or the form of a pruned one, by its bytes.
    /// </summary>
    public bool ChosenByRun => Task.Choices.Count > 0 || OfOpenRank || LayerCache.LeavesOutZeros(Task);

    /// <summary>A figure of the plan; null where there is none, or choices of the run differ in it.</summary>
    /// <param name="of">Takes it from a plan.</param>
    public long? Settled(Func<LayerPlan, long> of) =>
        OfOpenRank ? null
        : Plans.Select(of).Distinct().ToList() is [var one] ? one
        : null;

    /// <summary>Bytes of its values afterwards; null where nothing is done, or the run chooses.</summary>
    public long? BytesAfter =>
        OfOpenRank || Steps.Count == 0 || LayerCache.LeavesOutZeros(Task) ? null
        : Plans.Count == 0 ? Task.Data.Length
        : Settled(p => p.ValueBytes);

    /// <summary>The form; null where the layer stays as it is, or the run chooses.</summary>
    public string? Form =>
        OfOpenRank || LayerCache.LeavesOutZeros(Task) ? null
        : Plans.Select(p => p.Form).Distinct().ToList() is [var one] ? one
        : null;

    private IReadOnlyList<LayerPlan> Plans =>
        Task.Choices.Count > 0 ? [.. Task.Choices.Select(c => c.Last.Plan)]
        : Task.Plan is { } plan ? [plan]
        : [];
}

/// <summary>
/// The plan that a run would follow: steps on the graph are applied, and layers that a step makes of others are put in without
/// computing them.
/// </summary>
/// <param name="Layers">The layers, in the order of the plan.</param>
/// <param name="Unmatched">Rules of the recipe that match no layer.</param>
/// <param name="NotApplied">
/// Steps that were not applied, because they run the model on samples, or read factors that the run computes.
/// </param>
public sealed record Forecast(IReadOnlyList<ForecastLayer> Layers, IReadOnlyList<string> Unmatched, IReadOnlyList<string> NotApplied)
{
    /// <summary>Multiply-accumulates of the original.</summary>
    public long MultiplyAccumulates { get; init; }

    /// <summary>Multiply-accumulates afterwards that belong to no layer.</summary>
    public long OfComputed { get; init; }

    /// <summary>Finds the plan.</summary>
    /// <param name="host">Runs the activities.</param>
    /// <param name="store">Where the drop is, and work goes.</param>
    /// <param name="request">The run.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="BadInputException">The model or the recipe is wrong.</exception>
    public static async Task<Forecast> OfAsync(
        IOrchestration host,
        IArtifactStore store,
        RunRequest request,
        CancellationToken cancellation
    )
    {
        var inspected = await host.CallAsync<Inspect, InspectInput, Inspected>(new InspectInput(request));
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var notApplied = new List<string>();
        var open = new HashSet<string>(StringComparer.Ordinal);
        var factored = false;
        foreach (var stage in inspected.Stages)
        {
            var next = request with { Stage = request.Stage + stage.Steps };
            // Of factors the run computes the values.
            if (stage.Layers || factored || !await IsAppliedAsync(host, request))
            {
                var state = await ModelState.ReadAsync(store, request, cancellation);
                if (stage.Layers)
                    factored |= PutFactors(
                        state,
                        LayerTasks.Of(state.Index.Model, recipe, request.Stage, state.Index.Folder, state.Facts),
                        open
                    );
                else
                    notApplied.Add(recipe.Steps[request.Stage].Label);
                await state.WriteAsync(store, next, cancellation);
            }
            request = next;
        }
        var last = await ModelState.ReadAsync(store, request, cancellation);
        var tasks = LayerTasks.Of(last.Index.Model, recipe, request.Stage, last.Index.Folder, last.Facts);
        var cost = await RunCost.ReadAsync(store, request.Work, cancellation);
        var macs = cost.Of(last.Index.Model);
        var layers = tasks.Select(t =>
        {
            var origin = last.Facts.Origins.GetValueOrDefault(t.Name);
            string[] steps = [.. origin?.Steps ?? [], .. t.Labels];
            var isOpen = open.Contains(t.Name);
            var chains =
                t.Choices.Count > 0
                    ? t.Choices.Select(c => c.Chain)
                    :
                    [
                        [.. t.Chain],
                    ];
            var after = chains.Select(c => RunCost.After(macs.GetValueOrDefault(t.Name), t.Shape.Elements, c)).Distinct().ToList();
            return new ForecastLayer(t, steps, isOpen ? null : origin?.Rank, origin?.BytesBefore ?? t.Data.Length)
            {
                OfOpenRank = isOpen,
                NotApplied = last.Facts.AllNotApplied(t),
                Reason = last.Facts.Reason(t),
                MultiplyAccumulates = after is [var one] && !isOpen ? one : null,
            };
        });
        return new Forecast(
            [.. layers],
            LayerTasks.Unmatched(recipe, [.. tasks.Select(t => (t.Name, t.Node)), .. last.Facts.ReplacedNames]),
            notApplied
        )
        {
            MultiplyAccumulates = cost.MultiplyAccumulates,
            OfComputed = macs[Model.MultiplyAccumulates.Computed],
        };
    }

    private static async Task<bool> IsAppliedAsync(IOrchestration host, RunRequest request)
    {
        var step = new GraphStepInput(request, false);
        var tried = await host.CallAsync<ApplyGraphStep, GraphStepInput, GraphStepDone>(step);
        if (!tried.Done && !tried.WantsSamples)
            tried = await host.CallAsync<ApplyModelStep, GraphStepInput, GraphStepDone>(step);
        return tried.Done;
    }

    // A product of the rank that is planned, its factors at a place that is never read.
    private static bool PutFactors(ModelState state, IReadOnlyList<LayerTask> tasks, HashSet<string> open)
    {
        var edit = new ModelEdit(state.Index.Model);
        var weights = Weight.Of(state.Index.Model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        using var batch = edit.Batch(weights.Values.Select(w => ModelEdit.Outermost(w.Scope)).Distinct());
        foreach (var task in tasks.Where(t => t.Step is not null))
        {
            IReadOnlyList<string> values = [weights[task.Name].Value];
            var rank = task.Plan!.Rank;
            if (task.Plan.Form == FormName.Product)
                values = Form.Apply(
                    edit,
                    weights[task.Name],
                    EncodedLayer.OfFloats(FormName.Product, task.Shape, task.Data.DataType, task.Plan.BytesAfter, 0, 0) with
                    {
                        Rank = rank,
                        Factors = task.Plan.Factors!,
                    },
                    "work/none"
                );
            LayerOrigin.Note(state.Facts.Origins, task, values, rank, 0, task.Shape.Elements);
            state.Facts.Note(task, values);
            if (task.Choices.Count > 0 || task.Plan.IsMost || open.Contains(task.Name))
                open.UnionWith(values);
        }
        foreach (var task in tasks.Where(t => t.Step is null))
            state.Facts.Note(task, []);
        return tasks.Any(t => t.Plan?.Form == FormName.Product);
    }
}
