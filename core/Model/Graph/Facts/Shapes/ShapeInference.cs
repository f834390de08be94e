using System.Globalization;
using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// Infers types and shapes of all values, each from the inputs of the node that makes it (ONNX, "Shape Inference"). Declared shapes
/// are taken of the model's inputs alone, which a runtime checks; those of inner values may be out of date.
/// </summary>
/// <param name="model">The model.</param>
internal sealed class ShapeInference(ModelProto model)
{
    // Longer tensors of whole numbers are no shapes.
    private const int MostNumbers = 256,
        MostFloats = 16;
    private static readonly HashSet<string> Anonymous = ["", "?", "-1", "None", "unk", "unknown"];
    private readonly HashSet<(string, string)> functions = [.. model.Functions.Select(f => (f.Domain, f.Name))];
    private readonly Dictionary<GraphScope, Dictionary<string, ValueFact>> facts = [];
    private int unknowns;

    /// <summary>What is known of the values of each scope.</summary>
    public IReadOnlyDictionary<GraphScope, Dictionary<string, ValueFact>> Facts => facts;

    /// <summary>Whether a node calls a function of the model.</summary>
    public bool IsCall(NodeProto node) => functions.Contains((node.Domain, node.OpType));

    /// <summary>Infers a scope that has no parent.</summary>
    public void Run(GraphScope root)
    {
        var inputs = new Dictionary<string, ValueFact>(StringComparer.Ordinal);
        foreach (var v in root.Graph?.Input ?? [])
            inputs[v.Name] = Declared(v);
        Run(root, inputs);
    }

    private void Run(GraphScope scope, Dictionary<string, ValueFact> known)
    {
        facts[scope] = known;
        var types = new Dictionary<string, DataType>(StringComparer.Ordinal);
        foreach (var v in (scope.Graph?.ValueInfo ?? []).Concat(scope.Graph?.Output ?? []))
            if (v.Type?.TensorType is { ElemType: > 0 } tensor)
                types.TryAdd(v.Name, (DataType)tensor.ElemType);
        foreach (var t in scope.Graph?.Initializer ?? [])
            if (scope.Parent is not null || model.IrVersion < 4 || !known.ContainsKey(t.Name))
                known[t.Name] = Of(t);
        foreach (var s in scope.Graph?.SparseInitializer ?? [])
            if (s.Values is { } values)
                known[values.Name] = new ValueFact((DataType)values.DataType, [.. s.Dims.Select(Dim.Of)]);
        var order = GraphCheck.TopologicalOrder(scope.Nodes);
        var inner = scope.Children.ToLookup(c => c.Owner!, ReferenceEqualityComparer.Instance);
        foreach (var i in order ?? [])
        {
            var made = Infer(scope, scope.Nodes[i], inner);
            for (var o = 0; o < made.Length; o++)
            {
                var name = scope.Nodes[i].Output[o];
                if (name.Length == 0)
                    continue;
                var fact = made[o] ?? ValueFact.Unknown;
                if (fact.Type == DataType.Undefined && types.TryGetValue(name, out var type))
                    fact = fact with { Type = type };
                known[name] = Named(fact);
            }
        }
    }

    private ValueFact?[] Infer(GraphScope scope, NodeProto node, ILookup<object?, GraphScope> inner)
    {
        var inferred = new InferredNode(scope, node, [.. node.Input.Select(n => n.Length == 0 ? null : Find(scope, n))]);
        var bodies = inner[node].ToList();
        if (bodies.Count > 0)
        {
            foreach (var body in bodies)
                Run(body, Given(node, body, inferred));
            return Control(node, bodies, inferred);
        }
        if (IsCall(node) || ShapeRules.Of(node) is not { } rule)
            return inferred.Outputs;
        rule(inferred);
        NumberRules.Fold(inferred);
        return inferred.Outputs;
    }

    /// <summary>What is known of a value that a scope uses.</summary>
    public ValueFact Find(GraphScope scope, string name) =>
        scope.Resolve(name) is { } home && facts.TryGetValue(home, out var known)
            ? known.GetValueOrDefault(name, ValueFact.Unknown)
            : ValueFact.Unknown;

    // What a body is given in each of its runs: of what it changes, the type alone is the same.
    private static Dictionary<string, ValueFact> Given(NodeProto node, GraphScope body, InferredNode inferred)
    {
        var given = new Dictionary<string, ValueFact>(StringComparer.Ordinal);
        for (var i = 0; i < (body.Graph?.Input.Count ?? 0); i++)
        {
            var declared = (DataType)(body.Graph!.Input[i].Type?.TensorType?.ElemType ?? 0);
            var type = (node.OpType, i) switch
            {
                ("Loop", 0) => DataType.Int64,
                ("Loop", 1) => DataType.Bool,
                ("Loop", _) => inferred.Type(i),
                _ => declared,
            };
            given[body.Graph.Input[i].Name] = new ValueFact(type == DataType.Undefined ? declared : type, null);
        }
        return given;
    }

    private ValueFact?[] Control(NodeProto node, List<GraphScope> bodies, InferredNode inferred)
    {
        if (node.Operator() == "Loop")
        {
            for (var o = 0; o < inferred.Outputs.Length; o++)
                inferred.Make(o, o + 2 < inferred.Count ? inferred.Type(o + 2) : Result(bodies[0], o + 1).Type, null);
        }
        else if (node.Operator() == "If" && bodies.Count == 2)
        {
            for (var o = 0; o < inferred.Outputs.Length; o++)
                inferred.Outputs[o] = Taken(node, bodies, inferred.Constants(0)) is { } taken
                    ? Result(taken, o)
                    : Either(Result(bodies[0], o), Result(bodies[1], o));
        }
        return inferred.Outputs;
    }

    /// <summary>The branch of an If that every run takes; null where that is not known.</summary>
    public static GraphScope? Taken(NodeProto node, IEnumerable<GraphScope> bodies, IReadOnlyList<long>? condition)
    {
        if (condition is not [var value])
            return null;
        var branch = node.Attribute(value != 0 ? "then_branch" : "else_branch")?.G;
        return bodies.FirstOrDefault(b => ReferenceEquals(b.Graph, branch));
    }

    private ValueFact Result(GraphScope body, int output) =>
        output < body.Graph!.Output.Count ? Find(body, body.Graph.Output[output].Name) : ValueFact.Unknown;

    private static ValueFact Either(ValueFact a, ValueFact b)
    {
        var type = a.Type == b.Type ? a.Type : DataType.Undefined;
        if (a.Shape is null || a.Shape.Count != b.Shape?.Count)
            return new ValueFact(type, null);
        var same = a.Numbers is { } x && b.Numbers is { } y && x.Count == y.Count && !x.Where((n, i) => !Equals(n.Value, y[i].Value)).Any();
        return new ValueFact(type, [.. a.Shape.Zip(b.Shape, (p, q) => p.Equals(q) ? p : InferredNode.Unknown)])
        {
            Numbers = same ? [.. a.Numbers!.Zip(b.Numbers!, (p, q) => new ShapeNumber(p.Value, [.. p.Lengths.Union(q.Lengths)]))] : null,
        };
    }

    private ValueFact Declared(ValueInfoProto input)
    {
        var tensor = input.Type?.TensorType;
        var type = (DataType)(tensor?.ElemType ?? 0);
        if (tensor?.Shape is not { } shape)
            return new ValueFact(type, null);
        return Named(
            new ValueFact(
                type,
                [
                    .. shape.Dim.Select(
                        (d, i) =>
                            d.HasDimValue && d.DimValue >= 0 ? Dim.Of(d.DimValue)
                            : d.HasDimParam && !Anonymous.Contains(d.DimParam) && !d.DimParam.StartsWith('?') ? Dim.Symbol(d.DimParam)
                            : Dim.Symbol(string.Create(CultureInfo.InvariantCulture, $"{input.Name}.{i}"))
                    ),
                ]
            )
        );
    }

    private ValueFact Named(ValueFact fact) =>
        fact.Shape is null || !fact.Shape.Any(d => ReferenceEquals(d, InferredNode.Unknown))
            ? fact
            : fact with
            {
                Shape =
                [
                    .. fact.Shape.Select(d =>
                        ReferenceEquals(d, InferredNode.Unknown)
                            ? Dim.Symbol(string.Create(CultureInfo.InvariantCulture, $"?{++unknowns}"))
                            : d
                    ),
                ],
            };

    /// <summary>What is known of a constant.</summary>
    internal static ValueFact Of(TensorProto tensor)
    {
        var type = (DataType)tensor.DataType;
        var fact = new ValueFact(type, [.. tensor.Dims.Select(Dim.Of)]);
        if (tensor.Dims.Count > 1 || tensor.DataLocation == TensorProto.Types.DataLocation.External)
            return fact;
        var count = tensor.Dims.Count == 0 ? 1 : tensor.Dims[0];
        if (count > MostNumbers)
            return fact;
        var bytes = TensorRef.InlineBytes(tensor).Span;
        if (bytes.Length != (count * DataTypes.Bits(tensor.DataType) + 7) / 8)
            return fact;
        return type switch
        {
            DataType.Int64 => fact with { Numbers = Numbers(MemoryMarshal.Cast<byte, long>(bytes).ToArray()) },
            DataType.Int32 => fact with { Numbers = Numbers([.. MemoryMarshal.Cast<byte, int>(bytes).ToArray().Select(v => (long)v)]) },
            DataType.Bool => fact with { Numbers = Numbers([.. bytes.ToArray().Select(v => v == 0 ? 0L : 1)]) },
            DataType.Float when count <= MostFloats => fact with { Floats = MemoryMarshal.Cast<byte, float>(bytes).ToArray() },
            _ => fact,
        };

        static IReadOnlyList<ShapeNumber> Numbers(long[] values) => [.. values.Select(v => new ShapeNumber(Dim.Of(v), []))];
    }
}
