using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Removes units of groups from a model, by what the groups say and nothing else.</summary>
internal static class UnitRemoval
{
    /// <summary>Sets the units' producers, biases and consumers to zero.</summary>
    public static void Zero(IReadOnlyDictionary<ChannelGroup, int[]> units)
    {
        foreach (var (group, which) in units)
        foreach (var member in group.Members.Where(m => m.Role != ChannelRole.Parameter))
        {
            var tensor = member.Tensor;
            var bytes = TensorRef.InlineBytes(tensor).ToArray();
            var (outer, length, inner) = Layout(tensor, member.Axis);
            foreach (var index in which.SelectMany(member.Indices))
                for (long o = 0; o < outer; o++)
                    Array.Clear(bytes, (int)((o * length + index) * inner), (int)inner);
            Put(tensor, bytes);
        }
    }

    /// <summary>Cuts the units out.</summary>
    /// <param name="model">The model; changed.</param>
    /// <param name="facts">Its facts.</param>
    /// <param name="units">The units of each group.</param>
    public static void Remove(ModelProto model, GraphFacts facts, IReadOnlyDictionary<ChannelGroup, int[]> units)
    {
        int Removed(ChannelGroup g) => units.TryGetValue(g, out var which) ? which.Length : 0;
        var changed = units.Keys.SelectMany(g => g.Lengths).Select(l => (l.Node, l.Attribute, l.Input)).ToHashSet();
        var numbers = facts
            .Groups.Lengths.Where(l => changed.Contains((l.Node, l.Attribute, l.Input)))
            .GroupBy(l => (l.Node, l.Attribute, l.Input))
            .Select(g => (Lengths: g.ToList(), Now: g.Select(l => l.Of(Removed)).ToList()))
            .ToList();
        var ranks = numbers
            .Where(n => n.Lengths[0].Attribute is null)
            .ToDictionary(n => n.Lengths[0], n => facts.In(n.Lengths[0].Scope).Of(n.Lengths[0].Node.Input[n.Lengths[0].Input]));
        var cuts = units
            .SelectMany(u => u.Key.Members.SelectMany(m => u.Value.SelectMany(m.Indices).Select(i => (m.Tensor, m.Axis, Index: i))))
            .GroupBy<(TensorProto Tensor, int Axis, long Index), object>(c => c.Tensor, ReferenceEqualityComparer.Instance)
            .ToList();
        foreach (var cut in cuts.SelectMany(c => c.GroupBy(x => x.Axis)))
            Cut(cut.First().Tensor, cut.Key, cut.Select(c => c.Index).ToHashSet());
        var added = 0;
        foreach (var (lengths, now) in numbers)
        {
            if (lengths[0].Attribute is { } attribute)
                Set(lengths, now, attribute, ref added);
            else
                Set(lengths, now, ranks[lengths[0]], ref added);
        }
        model.Graph.ValueInfo.Clear();
    }

    private static void Set(List<ChannelLength> lengths, List<long> now, string attribute, ref int added)
    {
        var (node, scope) = (lengths[0].Node, lengths[0].Scope);
        if (attribute == "split" && scope.Opset >= 13)
        {
            // Even parts are told from now on.
            var name = $"removal_split_{added++}";
            Constant(scope, node, name, DataType.Int64, now, [now.Count]);
            if (node.Input.Count < 2)
                node.Input.Add(name);
            else
                node.Input[1] = name;
            foreach (var a in node.Attribute.Where(a => a.Name == "num_outputs").ToList())
                node.Attribute.Remove(a);
            return;
        }
        var found = node.Attribute.FirstOrDefault(a => a.Name == attribute);
        if (found is null)
            node.Attribute.Add(found = ModelEdit.Attribute(attribute, Enumerable.Repeat(0L, now.Count).ToArray()));
        for (var i = 0; i < now.Count; i++)
            if (found.Type == AttributeProto.Types.AttributeType.Int)
                found.I = now[i];
            else
                found.Ints[lengths[i].Element] = now[i];
    }

    // Where(elements told, their numbers, what was computed before).
    private static void Set(List<ChannelLength> lengths, List<long> now, ValueFact before, ref int added)
    {
        var (node, scope, input) = (lengths[0].Node, lengths[0].Scope, lengths[0].Input);
        var count = before.Shape!.Count == 0 ? 1 : (int)before.Shape[0].Value!.Value;
        var (told, values) = (new byte[count], new long[count]);
        for (var i = 0; i < now.Count; i++)
            (told[lengths[i].Element], values[lengths[i].Element]) = (1, now[i]);
        var name = $"removal_{added++}";
        long[] dims = before.Shape.Count == 0 ? [] : [count];
        Constant(scope, node, name + "_v", before.Type, values, dims);
        Insert(scope, node, ConstantNode(name + "_c", ModelEdit.Tensor(DataType.Bool, told, dims)));
        Insert(scope, node, ModelEdit.Node("Where", [name + "_c", name + "_v", node.Input[input]], [name]));
        node.Input[input] = name;
    }

    private static void Constant(GraphScope scope, NodeProto before, string name, DataType type, IReadOnlyList<long> values, long[] dims)
    {
        var bytes =
            type == DataType.Int32
                ? values.SelectMany(v => BitConverter.GetBytes((int)v)).ToArray()
                : values.SelectMany(BitConverter.GetBytes).ToArray();
        Insert(scope, before, ConstantNode(name, ModelEdit.Tensor(type, bytes, dims)));
    }

    private static NodeProto ConstantNode(string name, TensorProto tensor) =>
        ModelEdit.Node(
            "Constant",
            [],
            [name],
            new AttributeProto
            {
                Name = "value",
                Type = AttributeProto.Types.AttributeType.Tensor,
                T = tensor,
            }
        );

    private static void Insert(GraphScope scope, NodeProto before, NodeProto node)
    {
        for (var i = 0; i < scope.Nodes.Count; i++)
        {
            if (!ReferenceEquals(scope.Nodes[i], before))
                continue;
            scope.Nodes.Insert(i, node);
            return;
        }
        throw new InvalidOperationException("The node is not in its scope.");
    }

    private static void Cut(TensorProto tensor, int axis, HashSet<long> removed)
    {
        var bytes = TensorRef.InlineBytes(tensor).ToArray();
        var (outer, length, inner) = Layout(tensor, axis);
        var kept = new List<byte>();
        for (long o = 0; o < outer; o++)
        for (long i = 0; i < length; i++)
            if (!removed.Contains(i))
                kept.AddRange(bytes.AsSpan((int)((o * length + i) * inner), (int)inner));
        tensor.Dims[axis] = length - removed.Count;
        Put(tensor, [.. kept]);
    }

    // Elements before the axis, along it, and bytes of one index of it.
    private static (long Outer, long Length, long Inner) Layout(TensorProto tensor, int axis) =>
        (
            tensor.Dims.Take(axis).Aggregate(1L, (a, b) => a * b),
            tensor.Dims[axis],
            tensor.Dims.Skip(axis + 1).Aggregate(1L, (a, b) => a * b) * DataTypes.Bits(tensor.DataType) / 8
        );

    private static void Put(TensorProto tensor, byte[] bytes)
    {
        tensor.FloatData.Clear();
        tensor.Int32Data.Clear();
        tensor.Int64Data.Clear();
        tensor.RawData = ByteString.CopyFrom(bytes);
    }
}
