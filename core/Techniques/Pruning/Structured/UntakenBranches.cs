using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>Branches of If that no sample takes: samples tell nothing of the weights in them.</summary>
internal static class UntakenBranches
{
    private const string Then = "then_branch";

    /// <summary>Runs the samples, and observes the conditions of all Ifs.</summary>
    /// <param name="trials">The model and the samples.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>
    /// Places among the scopes of the main graph (<see cref="GraphScope.All"/>): branches that no sample takes, and what lies inside them.
    /// A branch whose condition cannot be observed, as inside a Loop, counts as taken.
    /// </returns>
    public static async Task<IReadOnlySet<int>> OfAsync(ModelTrials trials, CancellationToken cancellation)
    {
        var model = trials.Model.Model.Clone();
        var conditions = Show(model);
        var scopes = GraphScope.Of(model)[0].All().ToList();
        var places = scopes.Index().ToDictionary(s => s.Item, s => s.Index);
        var seen = new Dictionary<string, Seen>(StringComparer.Ordinal);
        var branches = new Dictionary<int, (Seen Condition, bool Value)>();
        foreach (var (place, scope) in scopes.Index().Where(s => conditions.ContainsKey(s.Index)))
            if (SubgraphTaps.Name(scope.Parent!, conditions[place]) is { } shown)
            {
                if (!seen.TryGetValue(shown, out var condition))
                    seen[shown] = condition = new Seen();
                var isThen = scope.Owner!.Attribute.Any(a => a.Name == Then && ReferenceEquals(a.G, scope.Graph));
                branches[place] = (condition, isThen);
            }
        if (seen.Count > 0)
            await ValueTap.RunAsync(
                await trials.FolderAsync(cancellation),
                trials.Model with
                {
                    Model = model,
                },
                seen.Keys.ToHashSet(StringComparer.Ordinal),
                await trials.ReadAsync(trials.Samples, cancellation),
                (name, values, _) => seen[name].Add(values),
                _ => Task.CompletedTask,
                cancellation
            );
        var untaken = new HashSet<int>();
        foreach (var (place, scope) in scopes.Index().Skip(1))
            if (untaken.Contains(places[scope.Parent!]) || branches.TryGetValue(place, out var b) && !b.Condition.May(b.Value))
                untaken.Add(place);
        return untaken;
    }

    // Adds each condition as a float beside its If; by the places of the branches.
    private static Dictionary<int, string> Show(ModelProto model)
    {
        var edit = new ModelEdit(model);
        var names = new Dictionary<NodeProto, string>(ReferenceEqualityComparer.Instance);
        var conditions = new Dictionary<int, string>();
        foreach (var (place, scope) in edit.Roots[0].All().Index().ToList())
        {
            if (scope.Owner is not { OpType: "If", Domain: "" } owner)
                continue;
            if (!names.TryGetValue(owner, out var name))
            {
                names[owner] = name = edit.FreshName("condition");
                var cast = ModelEdit.Node("Cast", [owner.Input[0]], [name], ModelEdit.Attribute("to", (long)DataType.Float));
                scope.Parent!.Graph!.Node.Add(cast);
            }
            conditions[place] = name;
        }
        return conditions;
    }

    // The values of a condition; none of a run that does not come to its If.
    private sealed class Seen
    {
        private bool isShown,
            isTrue,
            isFalse;

        public bool May(bool value) => !isShown || (value ? isTrue : isFalse);

        public void Add(ReadOnlySpan<float> values)
        {
            isShown = true;
            isTrue |= values.ContainsAnyExcept(0f);
            isFalse |= values.Contains(0f);
        }
    }
}
