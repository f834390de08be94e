using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Rounds the channels of quantized depthwise convolutions up to a multiple of 16 with channels of zeros: ONNX Runtime's
/// 8-bit depthwise kernel takes 16 channels at a time and what is left over one by one, which at 88 channels is as much
/// work again. The convolutions before make the added channels and those after disregard them; what the graph computes stays
/// the same. Weights are padded by nodes that fold at load, so that no zeros are stored.
/// </summary>
/// <param name="edit">The edit; the graph's operator set is at least 11.</param>
internal sealed class DepthwisePadding(ModelEdit edit)
{
    private const int Multiple = 16,
        Fewest = 17;
    private static readonly HashSet<string> Unary =
    [
        "Relu",
        "Clip",
        "HardSigmoid",
        "Sigmoid",
        "LeakyRelu",
        "Tanh",
        "HardSwish",
        "QuantizeLinear",
        "DequantizeLinear",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Squeeze",
        "Unsqueeze",
    ];

    private readonly GraphScope main = edit.Roots[0];
    private readonly HashSet<string> constants = edit.Roots[0].Constants.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);

    /// <summary>Pads wherever everything around a depthwise convolution can be.</summary>
    /// <param name="convolutions">The integer convolutions, each with its number of output channels.</param>
    /// <returns>How many depthwise convolutions were padded.</returns>
    public int Apply(IReadOnlyDictionary<NodeProto, int> convolutions)
    {
        var producers = main.Nodes.SelectMany(n => n.Output.Select(o => (o, n))).ToDictionary(p => p.o, p => p.n, StringComparer.Ordinal);
        var users = main
            .Nodes.SelectMany(n => n.Input.Concat(GraphScope.Captures(n)).Distinct().Select(i => (i, n)))
            .ToLookup(p => p.i, p => p.n, StringComparer.Ordinal);
        var outputs = main.Graph!.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        var done = new HashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        using var batch = edit.Batch();
        foreach (var (conv, channels) in convolutions)
        {
            if (channels < Fewest || channels % Multiple == 0 || Groups(conv) != channels || done.Contains(conv))
                continue;
            if (Region.Around(conv, channels, producers, users, outputs, constants) is not { } region)
                continue;
            done.UnionWith(region.Depthwise);
            Pad(region, Multiple - channels % Multiple, producers);
        }
        return done.Count;
    }

    private void Pad(Region region, int by, Dictionary<string, NodeProto> producers)
    {
        foreach (var conv in region.Depthwise)
        {
            conv.Attribute.First(a => a.Name == "group").I += by;
            Rows(conv, by, producers);
        }
        foreach (var node in region.Makers)
            Rows(node, by, producers);
        foreach (var node in region.Takers)
            node.Input[1] = Padded(node.Input[1], node.OpType == "Gemm" ? 2 : 4, 1, by, producers);
        for (var i = main.Graph!.ValueInfo.Count - 1; i >= 0; i--)
            if (region.Values.Contains(main.Graph.ValueInfo[i].Name))
                main.Graph.ValueInfo.RemoveAt(i);
    }

    private void Rows(NodeProto node, int by, Dictionary<string, NodeProto> producers)
    {
        node.Input[1] = Padded(node.Input[1], node.OpType == "Gemm" ? 2 : 4, 0, by, producers);
        // A bias has the scale of the products: that of the input times the weight's, which is 1 for what is added.
        var scale = producers.GetValueOrDefault(node.Input[0]) is { OpType: "DequantizeLinear" } input ? input.Input[1] : One();
        if (node.Input.Count > 2 && node.Input[2].Length > 0)
            node.Input[2] = Padded(node.Input[2], 1, 0, by, producers, scale);
    }

    // Codes are padded in front of the operator that decodes them, which integer kernels want next to themselves.
    private string Padded(string value, int rank, int axis, int by, Dictionary<string, NodeProto> producers, string? scale = null)
    {
        var nodes = new List<NodeProto>();
        if (producers.GetValueOrDefault(value) is not { OpType: "DequantizeLinear" } decode)
        {
            var padded = Add(value, rank, axis, "");
            Insert(value);
            return padded;
        }
        var copy = decode.Clone();
        copy.Output[0] = edit.FreshName(value + "_p");
        copy.Input[0] = Add(decode.Input[0], rank, axis, "");
        if (axis == 0)
        {
            copy.Input[1] = Add(decode.Input[1], 1, 0, scale ?? One());
            copy.Input[2] = Add(decode.Input[2], 1, 0, "");
        }
        nodes.Add(copy);
        Insert(value);
        producers[copy.Output[0]] = copy;
        return copy.Output[0];

        string Add(string input, int of, int at, string with)
        {
            var pads = new long[of * 2];
            pads[of + at] = by;
            var output = edit.FreshName(input + "_p");
            nodes.Add(
                ModelEdit.Node("Pad", with.Length > 0 ? [input, edit.Int64s(main, pads), with] : [input, edit.Int64s(main, pads)], [output])
            );
            return output;
        }

        void Insert(string after)
        {
            producers.TryGetValue(after, out var producer);
            ModelEdit.InsertAfter(main, producer, nodes);
        }
    }

    private string One() => edit.Share(main, "one", ModelEdit.Tensor([1f]));

    private static long Groups(NodeProto conv) => conv.Attribute.FirstOrDefault(a => a.Name == "group")?.I ?? 1;

    // The values that have a convolution's channels, and the nodes that make and take them.
    private sealed record Region(List<NodeProto> Depthwise, List<NodeProto> Makers, List<NodeProto> Takers, HashSet<string> Values)
    {
        public static Region? Around(
            NodeProto conv,
            int channels,
            Dictionary<string, NodeProto> producers,
            ILookup<string, NodeProto> users,
            HashSet<string> outputs,
            HashSet<string> constants
        )
        {
            var region = new Region([], [], [], new HashSet<string>(StringComparer.Ordinal));
            var open = new Queue<string>();
            See(conv.Input[0]);
            while (open.TryDequeue(out var value))
            {
                if (
                    outputs.Contains(value)
                    || !producers.TryGetValue(value, out var producer)
                    || !region.Pass(producer, value, made: true, channels, constants, See)
                )
                    return null;
                foreach (var user in users[value])
                    if (!region.Pass(user, value, made: false, channels, constants, See))
                        return null;
            }
            return region;

            void See(string value)
            {
                if (region.Values.Add(value))
                    open.Enqueue(value);
            }
        }

        // Whether a node that makes or takes a value of these channels can do with more of them.
        private bool Pass(NodeProto node, string value, bool made, int channels, HashSet<string> constants, Action<string> see)
        {
            var domain = node.Domain.Length == 0 || node is { Domain: Form.Microsoft, OpType: "QuantizeLinear" or "DequantizeLinear" };
            if (!domain || node.Output.Count != 1 || !made && node.Input.Skip(1).Contains(value) && node.OpType is not ("Mul" or "Add"))
                return false;
            switch (node.OpType)
            {
                case "Conv" when Groups(node) == channels && channels > 1:
                    AddOnce(Depthwise, node);
                    see(node.Input[0]);
                    see(node.Output[0]);
                    return true;
                case "Conv" when Groups(node) == 1:
                case "Gemm" when node.Attribute.Any(a => a is { Name: "transB", I: 1 }):
                    AddOnce(made ? Makers : Takers, node);
                    return true;
                case "Mul" or "Add":
                    if (node.Input.Any(constants.Contains))
                        return false;
                    foreach (var other in node.Input)
                        see(other);
                    see(node.Output[0]);
                    return true;
                default:
                    if (!Unary.Contains(node.OpType))
                        return false;
                    see(node.Input[0]);
                    see(node.Output[0]);
                    return true;
            }
        }

        private static void AddOnce(List<NodeProto> nodes, NodeProto node)
        {
            if (!nodes.Any(n => ReferenceEquals(n, node)))
                nodes.Add(node);
        }
    }
}
