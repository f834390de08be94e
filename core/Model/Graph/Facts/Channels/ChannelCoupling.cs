using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Finds which indices of which axes are one and the same, in all scopes of the main graph (dependency groups: Fang et al. 2023, "DepGraph:
/// Towards Any Structural Pruning"). Each node is looked at once; its rule makes axes one, cuts them, or freezes them with a reason.
/// </summary>
internal sealed class ChannelCoupling
{
    // Inputs whose numbers a rule takes as lengths, or freezes itself.
    private static readonly HashSet<(string, int)> Settings =
    [
        ("Reshape", 1),
        ("Expand", 1),
        ("ConstantOfShape", 0),
        ("Slice", 1),
        ("Slice", 2),
        ("Slice", 3),
        ("Slice", 4),
        ("Split", 1),
        ("Tile", 1),
        ("Pad", 1),
        ("Resize", 3),
        ("Gather", 1),
        ("Range", 0),
        ("Range", 1),
        ("Range", 2),
    ];
    private readonly ModelProto model;
    private readonly ShapeInference shapes;
    private readonly bool folded;
    private readonly Dictionary<GraphScope, Dictionary<string, CoupledValue>> values = [];

    /// <summary>Looks at a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="shapes">Its types and shapes.</param>
    /// <param name="main">The main graph.</param>
    /// <param name="folded">Whether what is computed of constants alone is a constant of its own.</param>
    public ChannelCoupling(ModelProto model, ShapeInference shapes, GraphScope main, bool folded)
    {
        (this.model, this.shapes, this.folded) = (model, shapes, folded);
        Run(main);
        foreach (var o in main.Graph!.Output)
            Freeze(main, o.Name, $"an output of the model, '{o.Name}'");
    }

    /// <summary>The values of each scope.</summary>
    public IReadOnlyDictionary<GraphScope, Dictionary<string, CoupledValue>> Values => values;

    /// <summary>The stored constants, in the order of the file.</summary>
    public List<CoupledConstant> Constants { get; } = [];

    /// <summary>What takes them.</summary>
    public List<ConstantUse> Uses { get; } = [];

    /// <summary>Numbers of the graph that are lengths.</summary>
    public List<LengthUse> Lengths { get; } = [];

    private void Run(GraphScope scope)
    {
        var known = values[scope] = new Dictionary<string, CoupledValue>(StringComparer.Ordinal);
        foreach (var v in scope.Graph!.Input)
            known[v.Name] = Frozen(
                scope,
                v.Name,
                scope.Parent is null ? $"an input of the model, '{v.Name}'" : "changes from step to step"
            );
        foreach (var t in scope.Graph.Initializer)
            if (scope.Parent is not null || model.IrVersion < 4 || !known.ContainsKey(t.Name))
                known[t.Name] = Constant(scope, t.Name, t);
        foreach (var s in scope.Graph.SparseInitializer)
            if (s.Values is { } sparse)
                known[sparse.Name] = Frozen(scope, sparse.Name, "stored without its zeros");
        var inner = scope.Children.ToLookup(c => c.Owner!, ReferenceEqualityComparer.Instance);
        foreach (var i in GraphCheck.TopologicalOrder(scope.Nodes) ?? [])
        {
            var node = scope.Nodes[i];
            if (
                node is
                {
                    OpType: "Constant",
                    Domain: "" or "ai.onnx",
                    Attribute: [{ Name: "value", T: { } tensor }],
                    Output: [{ Length: > 0 } name]
                }
            )
            {
                known[name] = Constant(scope, name, tensor);
                continue;
            }
            var made = Couple(scope, node, [.. inner[node]]);
            for (var o = 0; o < made.Length; o++)
                if (node.Output[o].Length > 0)
                    known[node.Output[o]] = made[o] ?? Frozen(scope, node.Output[o], $"{node.Shown()} makes it");
        }
    }

    private CoupledValue?[] Couple(GraphScope scope, NodeProto node, List<GraphScope> bodies)
    {
        var inferred = new InferredNode(scope, node, [.. node.Input.Select(n => n.Length == 0 ? null : shapes.Find(scope, n))]);
        for (var o = 0; o < node.Output.Count; o++)
            inferred.Outputs[o] = node.Output[o].Length == 0 ? null : shapes.Find(scope, node.Output[o]);
        var inputs = node.Input.Select(n => n.Length == 0 ? null : Find(scope, n)).ToList();
        var coupled = new CoupledNode(scope, node, inputs, inferred, Uses, Lengths, AxisOf);
        // Numbers that are followed further keep their lengths; whatever else computes with them decides by them.
        if (bodies.Count > 0 || inferred.Outputs is not [{ Numbers: not null }])
            for (var i = 0; i < inputs.Count; i++)
                if (!Settings.Contains((node.Operator(), i)))
                    coupled.FreezeLengths(i);
        if (folded && bodies.Count == 0 && inputs.Count > 0 && inputs.All(i => i is null or { Sources: not null }))
            return [.. node.Output.Select((o, i) => Folded(scope, o, inferred.Outputs[i]))];
        if (bodies.Count > 0)
            Control(coupled, node, bodies);
        else if (shapes.IsCall(node) || CouplingRules.Of(node) is not { } rule)
            coupled.FreezeAll("is not known here");
        else
            rule(coupled);
        return coupled.Outputs;
    }

    private void Control(CoupledNode coupled, NodeProto node, List<GraphScope> bodies)
    {
        foreach (var body in bodies)
            Run(body);
        if (node.Operator() == "If" && bodies.Count == 2)
        {
            var taken = ShapeInference.Taken(node, bodies, coupled.Shapes.Constants(0));
            for (var o = 0; o < node.Output.Count; o++)
                if (taken is null)
                    Either(coupled, o, Result(bodies[0], o), Result(bodies[1], o));
                else
                    Only(coupled, o, Result(taken, o).Value);
            return;
        }
        foreach (var body in bodies)
        foreach (var o in body.Graph!.Output)
            Freeze(body, o.Name, $"{node.Shown()} takes it from step to step");
        coupled.FreezeAll("takes it from step to step");
    }

    private (CoupledValue Value, IReadOnlyList<ShapeNumber>? Numbers) Result(GraphScope body, int output)
    {
        var name = output < body.Graph!.Output.Count ? body.Graph.Output[output].Name : "";
        return (Find(body, name), shapes.Find(body, name).Numbers);
    }

    // What a branch hands on is what the node makes.
    private void Either(
        CoupledNode n,
        int output,
        (CoupledValue Value, IReadOnlyList<ShapeNumber>? Numbers) a,
        (CoupledValue Value, IReadOnlyList<ShapeNumber>? Numbers) b
    )
    {
        if (n.Shapes.Outputs[output]?.Numbers is null)
            foreach (var axis in (a.Numbers ?? []).Concat(b.Numbers ?? []).SelectMany(v => v.Lengths))
                AxisOf(axis)?.Freeze($"its length is computed with in {n.Where}");
        var (x, y) = (a.Value.Axes, b.Value.Axes);
        if (x is null || y is null || x.Count != y.Count)
        {
            foreach (var set in (x ?? []).Concat(y ?? []))
                set.Freeze($"{n.Where} chooses between different shapes");
            n.MakeFrozen(output, $"{n.Where} chooses between different shapes");
            return;
        }
        var axes = new IndexSet[x.Count];
        for (var i = 0; i < axes.Length; i++)
        {
            n.Unify(x[i], y[i]);
            // Lengths that differ leave one that is known in neither branch.
            axes[i] = x[i].Size.Equals(y[i].Size)
                ? x[i]
                : n.Made(n.Shapes.Outputs[output]?.Shape?[i] ?? Dim.Symbol("?"), "chooses between different shapes");
        }
        // A constant that one branch makes may hold anything.
        var zero = axes.Select((_, i) => Zero(a.Value, i) && Zero(b.Value, i)).ToArray();
        n.Outputs[output] = new CoupledValue(axes, zero, null);

        static bool Zero(CoupledValue value, int axis) => value.Sources is null && value.Zero[axis];
    }

    // The other branch is taken by no run, so that its result may have any shape.
    private static void Only(CoupledNode n, int output, CoupledValue taken)
    {
        if (taken.Axes is { } axes)
            n.Outputs[output] = new CoupledValue(axes, [.. axes.Select((_, i) => taken.Sources is null && taken.Zero[i])], null);
        else
            n.MakeFrozen(output, $"{n.Where} makes a shape that is not known");
    }

    private CoupledValue? Folded(GraphScope scope, string name, ValueFact? fact)
    {
        if (name.Length == 0 || fact?.Shape is not { } shape || shape.Any(d => d.Value is null))
            return null;
        var tensor = new TensorProto { Name = name, DataType = (int)fact.Type };
        tensor.Dims.AddRange(shape.Select(d => d.Value!.Value));
        return Constant(scope, name, tensor);
    }

    private CoupledValue Constant(GraphScope scope, string name, TensorProto tensor)
    {
        var axes = tensor.Dims.Select(d => IndexSet.Leaf(Dim.Of(d), d < 1 ? "it is empty" : null)).ToArray();
        var constant = new CoupledConstant(scope, name, tensor, axes);
        Constants.Add(constant);
        return new CoupledValue(axes, [.. axes.Select(_ => true)], [constant]);
    }

    private CoupledValue Frozen(GraphScope scope, string name, string why)
    {
        var axes = shapes.Find(scope, name).Shape?.Select(d => IndexSet.Leaf(d, why)).ToArray();
        return new CoupledValue(axes, new bool[axes?.Length ?? 0], null);
    }

    private void Freeze(GraphScope scope, string name, string why)
    {
        foreach (var set in Find(scope, name).Axes ?? [])
            set.Freeze(why);
        foreach (var axis in (shapes.Find(scope, name).Numbers ?? []).SelectMany(n => n.Lengths))
            AxisOf(axis)?.Freeze($"its length is {why}");
    }

    private CoupledValue Find(GraphScope scope, string name) =>
        scope.Resolve(name) is { } home && values.TryGetValue(home, out var known) && known.TryGetValue(name, out var value)
            ? value
            : new CoupledValue(null, [], null);

    private IndexSet? AxisOf(ValueAxis axis) =>
        values.TryGetValue(axis.Scope, out var known) && known.TryGetValue(axis.Value, out var value) && axis.Axis < value.Axes?.Count
            ? value.Axes[axis.Axis]
            : null;
}
