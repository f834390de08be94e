using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Scaling;

/// <summary>A constant that changes with a value's channels: one factor for each index of an axis.</summary>
/// <param name="Tensor">The constant.</param>
/// <param name="Axis">The axis that the channels lie along.</param>
public sealed record ChannelConstant(TensorProto Tensor, int Axis);

/// <summary>Where the elements of a constant lie along its first two axes.</summary>
/// <param name="Width">Length of the second axis; 1 when there is none.</param>
/// <param name="Inner">Elements behind the second axis.</param>
public readonly record struct ChannelLayout(long Width, long Inner)
{
    /// <summary>Of a constant.</summary>
    public static ChannelLayout Of(TensorProto tensor) =>
        new(tensor.Dims.Count > 1 ? tensor.Dims[1] : 1, tensor.Dims.Skip(2).Aggregate(1L, (a, b) => a * b));

    /// <summary>Indexes of an element along both.</summary>
    public (int Row, int Column) Place(long element)
    {
        var (row, column) = Math.DivRem(element / Inner, Width);
        return ((int)row, (int)column);
    }
}

/// <summary>
/// A value whose channels can be divided by factors, in the constants that make it, and multiplied again, in the weights that
/// take it, so that the model computes what it did: between them lies nothing but operators that are positively
/// homogeneous, f(s·x) = s·f(x) for s &gt; 0, as Relu and pools are. A normalization's output that others take too can be
/// divided on the way to matrix products, by a node of its own.
/// </summary>
/// <param name="Value">The value that layers take.</param>
/// <param name="Channels">Its channels.</param>
/// <param name="Makers">Constants to divide; the weight first where a layer makes the value; none where only a node of its own can divide
/// it.</param>
/// <param name="FromLayer">Whether a layer's weight makes the value, not a normalization or a product.</param>
/// <param name="Takers">Weights to multiply.</param>
/// <param name="First">A layer that takes it.</param>
public sealed record ChannelScaling(
    string Value,
    int Channels,
    IReadOnlyList<ChannelConstant> Makers,
    bool FromLayer,
    IReadOnlyList<ChannelConstant> Takers,
    Weight First
)
{
    /// <summary>Whether a node has to be put in to divide it.</summary>
    public bool NeedsNode => Makers.Count == 0;

    /// <summary>All such values of a model's main graph, in the order of its nodes.</summary>
    public static IReadOnlyList<ChannelScaling> Of(ModelProto model)
    {
        var weights = Weight
            .Of(model)
            .Where(w => w.SkipReason is null && w.Scope is { Parent: null, Function: null } && w.Reference.DataType == (int)DataType.Float)
            .ToList();
        if (weights.Count == 0)
            return [];
        var main = weights[0].Scope;
        var layers = new Dictionary<NodeProto, Weight>(ReferenceEqualityComparer.Instance);
        foreach (var w in weights.Where(w => w.Uses is [{ Direct: true, Input: 1, Op: "Conv" or "MatMul" or "Gemm" } u] && u.Scope == main))
            layers[w.Uses[0].Node] = w;
        var graph = new Surroundings(new GraphFacts(model, [main]).Main, layers);
        return
        [
            .. main
                .Nodes.Where(layers.ContainsKey)
                .Select(n => n.Input[0])
                .Distinct()
                .Select(v => graph.Find(v) ?? graph.OnTheWay(v))
                .OfType<ChannelScaling>(),
        ];
    }

    private sealed record Surroundings(ScopeFacts Facts, Dictionary<NodeProto, Weight> Layers)
    {
        public ChannelScaling? Find(string value)
        {
            var consumers = new List<ChannelConstant>();
            foreach (var user in Facts.Index.Consumers(value))
            {
                if (!Layers.TryGetValue(user, out var w) || user.Input.Count(i => i == value) != 1 || Taken(user, w) is not { } taker)
                    return null;
                consumers.Add(taker);
            }
            var channels = consumers.Select(t => t.Tensor.Dims[t.Axis]).Distinct().ToList();
            if (channels.Count != 1 || Facts.Index.IsOutput(value))
                return null;
            var producers = new List<ChannelConstant>();
            // The last axis holds the channels of a matrix product, the second those of a convolution.
            var convolution = Facts.Index.Consumers(value).All(u => u.OpType == "Conv");
            if (!convolution && Facts.Index.Consumers(value).Any(u => u.OpType == "Conv"))
                return null;
            return Made(value, channels[0], convolution, producers) is { } layer
                ? new ChannelScaling(
                    value,
                    (int)channels[0],
                    layer ? [producers[^1], .. producers.SkipLast(1)] : producers,
                    layer,
                    consumers,
                    Layers[Facts.Index.Consumers(value).First()]
                )
                : null;
        }

        // The matrix products that take it, whatever else does. Other values are not worth it: behind a GELU, where a few tokens
        // wake channels that are silent otherwise, scaling by the largest magnitude was measured to lose more than it gains.
        public ChannelScaling? OnTheWay(string value)
        {
            if (!Normalized(value))
                return null;
            var products = Facts
                .Index.Consumers(value)
                .Where(u => u.OpType != "Conv" && Layers.ContainsKey(u) && u.Input.Count(i => i == value) == 1)
                .ToList();
            var consumers = products.Select(u => Taken(u, Layers[u])).OfType<ChannelConstant>().ToList();
            if (
                consumers.Count == 0
                || consumers.Count < products.Count
                || consumers.Select(t => t.Tensor.Dims[t.Axis]).Distinct().Count() > 1
            )
                return null;
            return new ChannelScaling(value, (int)consumers[0].Tensor.Dims[consumers[0].Axis], [], false, consumers, Layers[products[0]]);
        }

        private bool Normalized(string value) =>
            Facts.Index.Producer(value) switch
            {
                {
                    OpType: "LayerNormalization"
                        or "SimplifiedLayerNormalization"
                        or "SkipLayerNormalization"
                        or "SkipSimplifiedLayerNormalization"
                        or "RMSNormalization"
                } n => n.Output[0] == value,
                { OpType: "Mul", Domain: "" } n => n.Input.Any(IsVector),
                { OpType: "Add", Domain: "" } n => n.Input.FirstOrDefault(i => !IsVector(i)) is { } other
                    && n.Input.Any(IsVector)
                    && Facts.Index.Producer(other) is { OpType: "Mul", Domain: "" } m
                    && m.Input.Any(IsVector),
                _ => false,
            };

        private bool IsVector(string name) => Facts.Stored(name) is { DataType: (int)DataType.Float, Dims.Count: 1 } t && t.Dims[0] > 1;

        private static ChannelConstant? Taken(NodeProto node, Weight w) =>
            node.OpType switch
            {
                "Conv" when w.Reference.Dims.Length is not (3 or 4) => null,
                "Conv" when Groups(node) == 1 => new ChannelConstant(w.Tensor, 1),
                "Conv" when Groups(node) == w.Reference.Dims[0] && w.Reference.Dims[1] == 1 => new ChannelConstant(w.Tensor, 0),
                "MatMul" when w.Reference.Dims.Length == 2 => new ChannelConstant(w.Tensor, 0),
                "Gemm" when Flag(node, "transA") == 0 && w.Reference.Dims.Length == 2 => new ChannelConstant(
                    w.Tensor,
                    Flag(node, "transB") == 0 ? 0 : 1
                ),
                _ => null,
            };

        // Null when the value cannot be scaled where it is made; else whether a layer makes it.
        private bool? Made(string value, long channels, bool convolution, List<ChannelConstant> producers)
        {
            NodeProto? node;
            while (true)
            {
                node = Facts.Index.Producer(value);
                if (Facts.Index.IsOutput(value) || node is null || node.Output[0] != value || node.Domain is not ("" or "com.microsoft"))
                    return null;
                if (Layers.ContainsKey(node) || OperatorFacts.Of(node) is not { IsChannelwise: true, Homogeneous: true })
                    break;
                if (Facts.OnlyConsumer(node.Input[0]) is null)
                    return null;
                value = node.Input[0];
            }
            if (Layers.TryGetValue(node, out var w))
            {
                var axis = node.OpType == "Conv" || node.OpType == "Gemm" && Flag(node, "transB") != 0 ? 0 : 1;
                if (convolution != (node.OpType == "Conv") || w.Reference.Dims.Length < 2 || w.Reference.Dims[axis] != channels)
                    return null;
                if (node.OpType == "MatMul" && w.Reference.Dims.Length != 2)
                    return null;
                if (node.Input.Count > 2 && node.Input[2].Length > 0 && !Vector(node.Input[2], channels, producers))
                    return null;
                producers.Add(new ChannelConstant(w.Tensor, axis));
                return true;
            }
            if (convolution)
                return null;
            switch (node.OpType)
            {
                case "Add" when IsStored(node.Input[1]) != IsStored(node.Input[0]):
                    var other = node.Input[IsStored(node.Input[1]) ? 0 : 1];
                    return Facts.OnlyConsumer(other) is not null && Vector(node.Input[other == node.Input[0] ? 1 : 0], channels, producers)
                        ? Made(other, channels, convolution, producers)
                        : null;
                case "Mul" when IsStored(node.Input[1]) != IsStored(node.Input[0]):
                    return Vector(node.Input[IsStored(node.Input[1]) ? 1 : 0], channels, producers) ? false : null;
                case "LayerNormalization"
                or "SimplifiedLayerNormalization" when (node.Attribute.FirstOrDefault(a => a.Name == "axis")?.I ?? -1) == -1:
                    return node.Input.Skip(1).Where(i => i.Length > 0).All(i => Vector(i, channels, producers)) ? false : null;
                default:
                    return null;
            }
        }

        private bool IsStored(string name) => Facts.Stored(name) is not null;

        private bool Vector(string name, long channels, List<ChannelConstant> producers)
        {
            if (
                Facts.Stored(name) is not { DataType: (int)DataType.Float, Dims.Count: 1 } t
                || t.Dims[0] != channels
                || Facts.OnlyConsumer(name) is null
            )
                return false;
            producers.Add(new ChannelConstant(t, 0));
            return true;
        }

        private static long Groups(NodeProto node) => node.Attribute.FirstOrDefault(a => a.Name == "group")?.I ?? 1;

        private static long Flag(NodeProto node, string name) => node.Attribute.FirstOrDefault(a => a.Name == name)?.I ?? 0;
    }
}
