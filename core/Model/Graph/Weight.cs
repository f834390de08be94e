using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>One stored weight: a float tensor of the model, with everything that uses it.</summary>
/// <param name="Name">Unique in the model: the value's name, behind the scope's path where two scopes use the same.</param>
/// <param name="Scope">Where it is defined.</param>
/// <param name="Value">The name that uses refer to.</param>
/// <param name="Tensor">The tensor in the indexed model.</param>
/// <param name="Constant">The Constant node that holds it, or null for an initializer.</param>
/// <param name="Reference">Where its bytes are.</param>
/// <param name="Uses">Nodes that compute with it; empty when <paramref name="SkipReason"/>.</param>
/// <param name="SkipReason">Why it is not compressed, or null.</param>
public sealed record Weight(
    string Name,
    GraphScope Scope,
    string Value,
    TensorProto Tensor,
    NodeProto? Constant,
    TensorRef Reference,
    IReadOnlyList<WeightUse> Uses,
    string? SkipReason
)
{
    /// <summary>Element type of the value, as uses see it.</summary>
    public int Type { get; private init; }

    /// <summary>The Cast to FLOAT that alone takes the tensor, which is stored in another type; else null.</summary>
    public NodeProto? Cast { get; private init; }

    /// <summary>Where it is stored: <c>initializer</c>, <c>Constant</c>, in a subgraph or function, external or not.</summary>
    public string Place
    {
        get
        {
            var kind = Constant is null ? "initializer" : "Constant node";
            var scope =
                Scope.Function is not null ? " in function"
                : Scope.Parent is not null ? " in subgraph"
                : "";
            return kind + scope;
        }
    }

    /// <summary>All float tensors of a model with at least one element, in the order of the file.</summary>
    public static IReadOnlyList<Weight> Of(ModelProto model) => Of(model, GraphScope.Of(model));

    /// <summary>The same of a model whose scopes are at hand.</summary>
    /// <param name="model">The model.</param>
    /// <param name="roots">The main graph's scope, then those of functions.</param>
    internal static IReadOnlyList<Weight> Of(ModelProto model, IReadOnlyList<GraphScope> roots)
    {
        var scopes = roots.SelectMany(r => r.All()).ToList();
        var finder = new UseFinder(model, scopes);
        var found = new List<Weight>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        var numbers = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var scope in scopes)
        {
            var overridable =
                model.IrVersion >= 4 && scope.Parent is null && scope.Graph is not null
                    ? scope.Graph.Input.Select(v => v.Name).ToHashSet(StringComparer.Ordinal)
                    : [];
            foreach (var t in scope.Graph?.Initializer ?? [])
                Add(scope, t.Name, t, null, overridable.Contains(t.Name));
            foreach (var n in scope.Nodes)
                if (ConstantTensor(n) is { } t)
                    Add(scope, n.Output[0], t, n, false);
        }
        return found;

        void Add(GraphScope scope, string value, TensorProto tensor, NodeProto? constant, bool overridable)
        {
            if (!DataTypes.IsWeightType(tensor.DataType))
                return;
            var reference = TensorRef.From(tensor, value);
            if (reference.Elements == 0)
                return;
            var cast = constant is null ? finder.Widening(scope, value, tensor.DataType) : null;
            var (uses, why) = finder.Find(scope, cast?.Output[0] ?? value);
            if (reference.Dims.Length < 2)
                why ??= WhyVector(uses);
            if (overridable)
                why =
                    "a caller may override it: it is an input of the model; '- simplify: "
                    + "{initializerInputs: constant}' makes it a constant";
            var name = value;
            if (!names.Add(value))
            {
                var own = name = $"{scope.Path}/{value}";
                for (var i = numbers.GetValueOrDefault(own, 2); !names.Add(name); numbers[own] = ++i)
                    name = $"{own}#{i}";
            }
            var used = why is null ? cast : null;
            found.Add(
                new Weight(name, scope, used?.Output[0] ?? value, tensor, constant, reference, why is null ? uses : [], why)
                {
                    Cast = used,
                    Type = used is null ? tensor.DataType : (int)TensorProto.Types.DataType.Float,
                }
            );
        }
    }

    // What these operators take as a weight is none of another rank either, which is found out later.
    private static readonly HashSet<string> OfKnownRank =
    [
        "MatMul",
        "Gemm",
        "Gather",
        "Einsum",
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "LSTM",
        "GRU",
        "RNN",
    ];

    private static string? WhyVector(IReadOnlyList<WeightUse> uses) =>
        uses.FirstOrDefault(u => !OfKnownRank.Contains(u.Op)) is { } use ? $"a vector of {use.Op}, too small to matter" : null;

    // A list of floats becomes the tensor that it stands for (Constant, version 12), so that it can be pointed elsewhere.
    private static TensorProto? ConstantTensor(NodeProto node)
    {
        if (node.OpType != "Constant" || node.Output.Count != 1 || node.Attribute.Count != 1)
            return null;
        var a = node.Attribute[0];
        if (a.Name == "value" && a.T is not null)
            return a.T;
        if (a.Name != "value_floats")
            return null;
        var tensor = new TensorProto { DataType = (int)TensorProto.Types.DataType.Float };
        tensor.Dims.Add(a.Floats.Count);
        tensor.FloatData.AddRange(a.Floats);
        node.Attribute[0] = new AttributeProto
        {
            Name = "value",
            Type = AttributeProto.Types.AttributeType.Tensor,
            T = tensor,
        };
        return tensor;
    }
}
