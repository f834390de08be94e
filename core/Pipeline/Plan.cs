using System.IO.Enumeration;
using System.Text.Json;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.BiasCorrection;
using Serverless.Core.Techniques.Calibration;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="Plan"/>.</summary>
/// <param name="Request">The run.</param>
public sealed record PlanInput(RunRequest Request);

/// <summary>What was planned.</summary>
/// <param name="Layers">Weights that will be compressed: the first of the plan.</param>
/// <param name="All">All weights of the plan.</param>
/// <param name="Bytes">Bytes of the layers that will be compressed.</param>
/// <param name="Placement">Where they are compressed.</param>
public sealed record Planned(int Layers, int All, long Bytes, StepPlacement Placement)
{
    /// <summary>Hash of the tasks.</summary>
    public string Tasks { get; init; } = "";

    /// <summary>Inputs of layers that techniques want to know about.</summary>
    public int Observations { get; init; }

    /// <summary>Whether biases are to be corrected.</summary>
    public bool CorrectsBias { get; init; }

    /// <summary>Whether integer kernels compute layers that could stay float.</summary>
    public bool Integers { get; init; }

    /// <summary>Whether widths of layers are to be chosen.</summary>
    public bool Mixed { get; init; }
}

/// <summary>Decides, weight by weight, which step applies and in which storage form, and why not where none does.</summary>
public sealed class Plan : Activity<PlanInput, Planned>
{
    /// <inheritdoc/>
    public override async Task<Planned> RunAsync(PlanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var model = ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunNames.Graph(request.State), int.MaxValue, cancellation));
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunNames.Files(request.Work), cancellation);
        var (tasks, observations) = Observations(Decide(model, recipe, StorePath.Parent(request.Model)), Weight.Of(model), request.State);
        var mixed = tasks.Any(t => t.Choices.Count > 0);
        var corrects = recipe.Find<BiasCorrectionOptions>()?.Apply ?? tasks.Any(t => t.Plan?.Form == StorageForm.Qdq);
        if (observations.Count > 0 || mixed || corrects)
            await store.WriteJsonAsync(
                RunNames.Calibration(request.State),
                new Calibration(
                    observations,
                    Samples(tasks, mixed, corrects ? recipe.Find<BiasCorrectionOptions>() ?? new BiasCorrectionOptions() : null),
                    0,
                    0,
                    ""
                ),
                cancellation
            );
        var hash = await LayerRecords.WriteTasksAsync(
            store,
            request.Work,
            0,
            [.. tasks.Select(t => t with { Data = t.Data with { ETag = etags.GetValueOrDefault(t.Data.Path) } })],
            cancellation
        );
        var weights = Weight.Of(model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var integers = tasks.Any(t => t.Step is { } s && Technique(s).InFloat(weights[t.Name], t.Shape, Options(s), "") is not null);
        return Summary(tasks) with
        {
            Tasks = hash,
            Observations = observations.Count,
            Mixed = mixed,
            CorrectsBias = corrects,
            Integers = integers,
        };
    }

    /// <summary>The tasks of a model under a recipe: those that compress first, largest first, then the rest.</summary>
    /// <param name="model">The model, indexed.</param>
    /// <param name="recipe">The recipe.</param>
    /// <param name="folder">Store folder that file names are relative to.</param>
    public static IReadOnlyList<LayerTask> Decide(ModelProto model, Recipe recipe, string folder)
    {
        var weights = Weight.Of(model);
        var tasks = Protect([.. weights.Select(w => Decide(w, recipe, folder))], weights)
            .OrderBy(t => t.Step is null)
            .ThenByDescending(t => t.Step is null ? 0 : t.Data.Length)
            .ThenBy(t => t.Name, StringComparer.Ordinal);
        return [.. tasks.Select((t, i) => t with { Index = i })];
    }

    // Small layers weigh little and often count most: a technique may ask that a share of the weights be treated gently.
    private static List<LayerTask> Protect(List<LayerTask> tasks, IReadOnlyList<Weight> weights)
    {
        var total = (double)tasks.Where(t => t.Step is not null).Sum(t => t.Data.Length);
        long taken = 0;
        foreach (
            var i in Enumerable
                .Range(0, tasks.Count)
                .Where(i => tasks[i].Step is not null)
                .OrderBy(i => tasks[i].Data.Length)
                .ThenBy(i => tasks[i].Name, StringComparer.Ordinal)
                .ToList()
        )
        {
            var technique = Technique(tasks[i].Step!);
            var options = tasks[i].Step!.Options.Deserialize(technique.OptionsType, Json.Options)!;
            taken += tasks[i].Data.Length;
            if (taken > technique.Protect(options) * total)
                break;
            if (technique.Gentler(options) is not { } gentler)
                continue;
            var next = WithOptions(tasks[i], weights[i], gentler);
            if (next.Step is not null)
                tasks[i] = next;
        }
        return tasks;
    }

    // Mul, which decoding multiplies with, has no kernel before.
    private const int OldestDecoded = 7;

    /// <summary>How the reason begins why a weight stays that compressing would not make smaller.</summary>
    internal const string TooSmall = "too small";

    /// <summary>Numbers of layers and bytes of a plan.</summary>
    public static Planned Summary(IReadOnlyList<LayerTask> tasks) =>
        new(
            tasks.Count(t => t.Step is not null),
            tasks.Count,
            tasks.Where(t => t.Step is not null).Sum(t => t.Data.Length),
            tasks.FirstOrDefault(t => t.Step is not null)?.Step!.Placement ?? new StepPlacement()
        );

    /// <summary>Re-plans one layer with other options; null when the result would be no smaller.</summary>
    internal static LayerTask WithOptions(LayerTask task, Weight weight, Setting treatment, StepPlacement? placement = null)
    {
        var (technique, options) = ((LayerTechnique)treatment.Technique, treatment.Options);
        var plan = technique.Plan(weight, task.Shape, options);
        if (weight.Scope.Opset < OldestDecoded && plan.Form != StorageForm.MatMulNBits)
            return task with
            {
                Step = null,
                Plan = null,
                LeftAlone = $"ONNX Runtime decodes nothing in operator set {weight.Scope.Opset}; convert the model to 13 or later",
            };
        return plan.BytesAfter >= task.Data.Length
            ? task with
            {
                Step = null,
                Plan = null,
                LeftAlone = $"{TooSmall} to gain: {task.Data.Length} bytes, {plan.BytesAfter} after",
            }
            : task with
            {
                Step = RecipeStep.Of(treatment) with { Placement = task.Step?.Placement ?? placement ?? new StepPlacement() },
                Plan = plan,
                LeftAlone = null,
            };
    }

    private static LayerTask Decide(Weight weight, Recipe recipe, string folder)
    {
        var reference = weight.Reference;
        var data = new WeightData(
            reference.File is { } f ? ModelWriter.Resolve(folder, f) : "",
            null,
            reference.Offset,
            reference.Length,
            reference.DataType
        );
        var shape = weight.Uses.Count > 0 ? LayerShape.Of(weight) : new LayerShape(1, reference.Elements, 1);
        var node = weight.Uses.Count > 0 ? weight.Uses[0].Node : null;
        var op = string.Join("+", weight.Uses.Select(u => u.Op).Distinct());
        var task = new LayerTask(
            0,
            weight.Name,
            node is null ? null
                : node.Name.Length > 0 ? node.Name
                : node.Output[0],
            op,
            reference.Dims,
            data,
            shape,
            null,
            null,
            weight.LeftAlone
        );
        if (weight.LeftAlone is not null)
            return task;
        if (LayerShape.WhyUnfit(weight) is { } unfit)
            return task with { LeftAlone = unfit };
        var rules = recipe.Layers.Where(r => Matches(r.Match, task)).ToList();
        if (rules.LastOrDefault()?.Skip == true)
            return task with { LeftAlone = $"skipped by the recipe ('{rules[^1].Match}')" };
        if (recipe.Steps.LastOrDefault(s => s.Technique is LayerTechnique) is not { } step)
            return task with { LeftAlone = "no step of the recipe applies" };
        var technique = Technique(step);
        var merged = rules
            .Select(r => r.Overrides.GetValueOrDefault(step.Step))
            .Where(o => o.ValueKind == JsonValueKind.Object)
            .Aggregate(
                step.Options,
                (options, o) =>
                    JsonSerializer.SerializeToElement(
                        OptionBinder.Merge(technique.OptionsType, options, o),
                        technique.OptionsType,
                        Json.Options
                    )
            );
        var options = merged.Deserialize(technique.OptionsType, Json.Options)!;
        var choices = technique.Choices(options).Select(c => WithOptions(task, weight, c, step.Placement)).ToList();
        if (choices.Count == 0)
            return WithOptions(task, weight, new Setting(technique, options), step.Placement);
        var worthwhile = choices.Where(c => c.Step is not null).Select(c => new LayerChoice(c.Step!, c.Plan!)).ToList();
        return choices.LastOrDefault(c => c.Step is not null) is { } largest ? largest with { Choices = worthwhile } : choices[0];
    }

    // Layers that share an input share an observation of it.
    private static (List<LayerTask> Tasks, List<Observation> Observations) Observations(
        IReadOnlyList<LayerTask> tasks,
        IReadOnlyList<Weight> weights,
        string state
    )
    {
        var byName = weights.ToDictionary(w => w.Name, StringComparer.Ordinal);
        var found = new Dictionary<string, Observation>(StringComparer.Ordinal);
        var planned = new List<LayerTask>();
        foreach (var task in tasks)
        {
            foreach (var view in task.Step is { } s ? Technique(s).Watches(byName[task.Name], Options(s)) : [])
                Observe([view], Statistics.Range | Statistics.Histogram);
            var wanted = task.Step is { } step ? Technique(step).Needs(Options(step)) : Statistics.None;
            if (wanted == Statistics.None)
            {
                planned.Add(task);
                continue;
            }
            var (views, why) = InputView.Of(byName[task.Name], task.Shape);
            if (why is not null)
            {
                planned.Add(task with { NotObserved = why });
                continue;
            }
            planned.Add(task with { Observation = Observe(views, wanted), State = state });
        }
        return (planned, [.. found.Values.OrderBy(o => o.Index)]);

        int Observe(IReadOnlyList<InputView> views, Statistics wanted)
        {
            var key = JsonSerializer.Serialize(views, Json.Options);
            if (!found.TryGetValue(key, out var observation))
                observation = new Observation(found.Count, views, Statistics.None);
            found[key] = observation with { Wanted = observation.Wanted | wanted };
            return observation.Index;
        }
    }

    // As many as whoever wants most: a technique, the comparison of widths, or the correction of biases.
    private static int Samples(IEnumerable<LayerTask> tasks, bool mixed, BiasCorrectionOptions? corrects) =>
        tasks
            .Where(t => t.Step is not null)
            .Select(t => Technique(t.Step!).Samples(Options(t.Step!)))
            .Append(mixed ? ModelTrial.MostRuns : 0)
            .Append(corrects?.Samples ?? 0)
            .Max();

    internal static object Options(RecipeStep step) => step.Typed;

    internal static LayerTechnique Technique(RecipeStep step) => (LayerTechnique)step.Technique;

    private static bool Matches(string glob, LayerTask task) =>
        FileSystemName.MatchesSimpleExpression(glob, task.Name, ignoreCase: false)
        || (task.Node is { } n && FileSystemName.MatchesSimpleExpression(glob, n, ignoreCase: false));
}
