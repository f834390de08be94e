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
    private readonly GraphScope main = edit.Roots[0];

    // Nodes that were put in, which the index does not know.
    private readonly Dictionary<string, NodeProto> added = new(StringComparer.Ordinal);

    /// <summary>Pads wherever everything around a depthwise convolution can be.</summary>
    /// <param name="convolutions">The integer convolutions, each with its number of output channels.</param>
    /// <returns>How many depthwise convolutions were padded.</returns>
    public int Apply(IReadOnlyDictionary<NodeProto, int> convolutions)
    {
        var facts = new GraphFacts(edit.Model);
        var done = new HashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        using var batch = edit.Batch();
        foreach (var (conv, channels) in convolutions)
        {
            if (channels < Fewest || channels % Multiple == 0 || Groups(conv) != channels || done.Contains(conv))
                continue;
            if (Region.Around(conv, facts) is not { } region)
                continue;
            done.UnionWith(region.Depthwise);
            Pad(region, Multiple - channels % Multiple);
        }
        return done.Count;
    }

    private void Pad(Region region, int by)
    {
        foreach (var conv in region.Depthwise)
        {
            conv.Attribute.First(a => a.Name == "group").I += by;
            Rows(conv, by);
        }
        foreach (var node in region.Makers)
            Rows(node, by);
        foreach (var node in region.Takers)
            node.Input[1] = Padded(node.Input[1], node.OpType == "Gemm" ? 2 : 4, 1, by);
        for (var i = main.Graph!.ValueInfo.Count - 1; i >= 0; i--)
            if (region.Values.Contains(main.Graph.ValueInfo[i].Name))
                main.Graph.ValueInfo.RemoveAt(i);
    }

    private void Rows(NodeProto node, int by)
    {
        node.Input[1] = Padded(node.Input[1], node.OpType == "Gemm" ? 2 : 4, 0, by);
        // A bias has the scale of the products: that of the input times the weight's, which is 1 for what is added.
        var scale = Producer(node.Input[0]) is { OpType: "DequantizeLinear" } input ? input.Input[1] : One();
        if (node.Input.Count > 2 && node.Input[2].Length > 0)
            node.Input[2] = Padded(node.Input[2], 1, 0, by, scale);
    }

    // Codes are padded in front of the operator that decodes them, which integer kernels want next to themselves.
    private string Padded(string value, int rank, int axis, int by, string? scale = null)
    {
        var nodes = new List<NodeProto>();
        if (Producer(value) is not { OpType: "DequantizeLinear" } decode)
        {
            var padded = Add(value, rank, axis, "");
            Insert(value);
            added[padded] = nodes[^1];
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
        added[copy.Output[0]] = copy;
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

        void Insert(string after) => ModelEdit.InsertAfter(main, Producer(after), nodes);
    }

    private NodeProto? Producer(string value) => added.GetValueOrDefault(value) ?? main.Index.Producer(value);

    private string One() => edit.Share(main, "one", ModelEdit.Tensor([1f]));

    private static long Groups(NodeProto conv) => conv.Attribute.FirstOrDefault(a => a.Name == "group")?.I ?? 1;

    // The nodes that make and take a convolution's channels, and the values that have them.
    private sealed record Region(List<NodeProto> Depthwise, List<NodeProto> Makers, List<NodeProto> Takers, HashSet<string> Values)
    {
        public static Region? Around(NodeProto conv, GraphFacts facts)
        {
            var main = facts.Roots[0];
            if (facts.FoldedGroups.Whole(new ValueAxis(main, conv.Output[0], 1)) is not { CanShrink: true } group)
                return null;
            // Numbers other than those of groups would have to be told, and channels beside others moved.
            if (
                group.Lengths.Any(l => l.Attribute != "group")
                || group.Values.Any(v => v.Scope != main || facts.FoldedGroups.Whole(v) != group)
            )
                return null;
            if (!group.Uses.All(u => u.Scope == main && CanGrow(u, group.Units)))
                return null;
            var nodes = group.Uses.Where(u => u.Role != ChannelRole.Bias).ToLookup(u => Kind(u, group.Units), u => u.Node);
            return new Region(
                [.. nodes[Part.Depthwise].Distinct()],
                [.. nodes[Part.Maker].Distinct()],
                [.. nodes[Part.Taker].Distinct()],
                group.Values.Select(v => v.Value).ToHashSet(StringComparer.Ordinal)
            );
        }

        private static bool CanGrow(ChannelUse use, int channels) =>
            use.Node switch
            {
                { OpType: "Conv", Domain: "" } conv => Groups(conv) == 1 || Groups(conv) == channels,
                { OpType: "Gemm", Domain: "" } gemm => use.Input > 0 && gemm.Attribute.Any(a => a is { Name: "transB", I: 1 }),
                _ => false,
            };

        private static Part Kind(ChannelUse use, int channels)
        {
            if (use.Node.OpType == "Conv" && Groups(use.Node) == channels && channels > 1)
                return Part.Depthwise;
            return use.Role == ChannelRole.Producer ? Part.Maker : Part.Taker;
        }

        private enum Part
        {
            Depthwise,
            Maker,
            Taker,
        }
    }
}
