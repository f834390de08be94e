using Serverless.Core.Model;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>
/// Settles the options of steps that depend on the weights of several layers, from what <see cref="SurveyWeights"/> read.
/// </summary>
public sealed class SettleOptions : Activity<StateInput, Planned>
{
    /// <inheritdoc/>
    public override async Task<Planned> RunAsync(StateInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var tasks = await LayerRecords.TasksAsync(store, request.State, 0, cancellation);
        var graph = await ModelState.GraphAsync(store, request, cancellation);
        var weights = Weight.Of(graph).ToDictionary(w => w.Name, StringComparer.Ordinal);
        var chains = tasks.Select(t => t.Chain.ToList()).ToList();
        var open = new List<(int Task, int Position, WeightSurvey Survey)>();
        for (var from = 0; from < tasks.Count && tasks[from].Step is not null; from += SurveyWeights.Most)
        {
            var surveys = await store.ReadJsonAsync<IReadOnlyList<IReadOnlyList<WeightSurvey?>>>(
                RunPaths.Surveys(request.State, from),
                cancellation
            );
            open.AddRange(surveys.SelectMany((of, i) => of.Select((s, position) => (from + i, position, s))).Where(s => s.s is not null)!);
        }
        var facts = new GraphFacts(graph);
        var settledSteps = new HashSet<(int Task, int Position)>();
        // Layers whose options a rule changes are a group of their own.
        foreach (var group in open.GroupBy(o => (o.Position, Step(o).Step, Step(o).Method, Options: Step(o).Options.GetRawText())))
        {
            var step = Step(group.First());
            var layers = group.Select(o => (weights[tasks[o.Task].Name], o.Survey)).ToList();
            var settled = LayerUnit.Settle(step.Layer, step.Typed, layers, facts);
            foreach (var ((task, position, _), options) in group.Zip(settled))
            {
                var setting = new Setting(step.Layer, options);
                var planned = LayerTasks.WithOptions(tasks[task], weights[tasks[task].Name], setting, step.Placement);
                chains[task][position] = new PlannedStep(planned.Step!, planned.Plan!);
                settledSteps.Add((task, position));
            }
        }
        IReadOnlyList<LayerTask> allocated = [.. tasks.Select(Settled)];
        return input.Planned! with { Tasks = await LayerRecords.WriteTasksAsync(store, request.State, 0, allocated, cancellation) };

        // The steps stand in every chain that may be chosen for the layer, too.
        LayerTask Settled(LayerTask task, int i) =>
            chains[i] is not [.. var earlier, var last]
                ? task
                : task with
                {
                    Earlier = [.. earlier],
                    Step = last.Step,
                    Plan = last.Plan,
                    Choices =
                    [
                        .. task.Choices.Select(c =>
                            c with
                            {
                                Chain = [.. c.Chain.Select((p, at) => settledSteps.Contains((i, at)) ? chains[i][at] : p)],
                            }
                        ),
                    ],
                };

        Recipes.RecipeStep Step((int Task, int Position, WeightSurvey Survey) o) => chains[o.Task][o.Position].Step;
    }
}
