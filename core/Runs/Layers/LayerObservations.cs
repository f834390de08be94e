using System.Text.Json;
using Serverless.Core.Model;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>
/// What is to be known of the inputs of a model's layers. Layers that share an input share an observation of it; an input whose
/// statistics follow from those of another is not observed.
/// </summary>
internal sealed class LayerObservations
{
    private readonly Dictionary<string, Observation> asked = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (LayerTask Task, string Key)> layers = new(StringComparer.Ordinal);
    private readonly LinearOutputs linear;

    private LayerObservations(LinearOutputs linear) => this.linear = linear;

    /// <summary>The tasks with their observations, and the observations in order.</summary>
    /// <param name="tasks">The tasks.</param>
    /// <param name="needs">What steps behind the chain want to know.</param>
    /// <param name="weights">Every weight of the model, by name.</param>
    /// <param name="factors">Weights that are factors of a product.</param>
    /// <param name="state">Store folder of the model's state.</param>
    public static (List<LayerTask> Tasks, List<Observation> Observations) Of(
        IReadOnlyList<LayerTask> tasks,
        IReadOnlyList<GraphNeeds> needs,
        IReadOnlyDictionary<string, Weight> weights,
        IEnumerable<Weight> factors,
        string state
    )
    {
        var all = new LayerObservations(new LinearOutputs(factors));
        foreach (var need in needs)
        foreach (var view in need.Views)
            all.Ask([view], need.Wanted);
        var planned = tasks.Select(t => all.Ask(t, weights[t.Name], state)).ToList();
        var (places, observations) = all.Places();
        return ([.. planned.Select(Placed)], observations);

        LayerTask Placed(LayerTask task)
        {
            if (!all.layers.TryGetValue(task.Name, out var layer))
                return task;
            var (observation, output) = places[layer.Key];
            return task with { Observation = observation, ObservedOutput = output };
        }
    }

    private LayerTask Ask(LayerTask task, Weight weight, string state)
    {
        var wanted = task.Chain.Aggregate(StatisticKinds.None, (all, p) => all | p.Step.Layer.Needs(p.Step.Typed));
        if (wanted == StatisticKinds.None)
            return task;
        var (views, why) = InputView.Of(weight, task.Shape);
        if (why is not null)
            return task with { NotObserved = why };
        task = task with { State = state };
        layers[task.Name] = (task, Ask(views, wanted));
        return task;
    }

    private string Ask(IReadOnlyList<InputView> views, StatisticKinds wanted)
    {
        var key = JsonSerializer.Serialize(views, Json.Options);
        if (!asked.TryGetValue(key, out var observation))
            observation = new Observation(asked.Count, views, StatisticKinds.None);
        wanted |= observation.Wanted;
        asked[key] = observation with { Wanted = wanted.HasFlag(StatisticKinds.Gram) ? wanted & ~StatisticKinds.Squares : wanted };
        return key;
    }

    // Where the statistics of each input are: of an observation, and which of its outputs.
    private (Dictionary<string, (int Observation, int Output)> Places, List<Observation> Observations) Places()
    {
        var ordered = asked.OrderBy(a => a.Value.Index).Select(a => (a.Key, Observation: a.Value, Source: Source(a.Key))).ToList();
        var places = new Dictionary<string, (int Observation, int Output)>(StringComparer.Ordinal);
        var observations = new List<Observation>();
        foreach (var (key, observation, _) in ordered.Where(o => o.Source is null))
        {
            places[key] = (observations.Count, 0);
            observations.Add(observation with { Index = observations.Count });
        }
        foreach (var (key, _, source) in ordered.Where(o => o.Source is not null))
        {
            var (task, from) = source!.Value;
            var index = places[from].Observation;
            var outputs = observations[index].Outputs;
            observations[index] = observations[index] with { Outputs = [.. outputs, new LinearLayer(task.Data, task.Shape)] };
            places[key] = (index, outputs.Count + 1);
        }
        return (places, observations);
    }

    // The layer whose output an input is, where the Gram matrix is all that is wanted of it and the layer's own input is observed for one.
    private (LayerTask Task, string Key)? Source(string key)
    {
        var value = asked[key];
        if (value.Wanted != StatisticKinds.Gram || linear.Maker(value.Views) is not { } maker)
            return null;
        return
            layers.TryGetValue(maker.Name, out var layer)
            && layer.Task.Shape.Rows == value.Views[0].Axis
            && asked[layer.Key].Wanted.HasFlag(StatisticKinds.Gram)
            && Source(layer.Key) is null
            ? layer
            : null;
    }
}
