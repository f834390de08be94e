using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Indices of an axis of a constant that stay.</summary>
/// <param name="Tensor">The constant.</param>
/// <param name="Axis">The axis.</param>
/// <param name="Kept">The indices, ascending.</param>
public sealed record AxisCut(TensorProto Tensor, int Axis, IReadOnlyList<int> Kept);

/// <summary>Removes units of groups from a model: what is zero there can be taken away with no change of the outputs.</summary>
public static class UnitRemoval
{
    private const long SplitWithInput = 13;

    /// <summary>Sets the numbers of the graph that change, and tells which indices of which constants stay.</summary>
    /// <param name="model">The model; changed. Its constants are left to the caller, dimensions included (<see cref="Cut"/>).</param>
    /// <param name="facts">Facts of it.</param>
    /// <param name="units">The units of each group that go.</param>
    public static IReadOnlyList<AxisCut> Apply(
        ModelProto model,
        GraphFacts facts,
        IReadOnlyDictionary<ChannelGroup, IReadOnlyList<int>> units
    )
    {
        int Removed(ChannelGroup g) => units.TryGetValue(g, out var which) ? which.Count : 0;
        var changed = units.Keys.SelectMany(g => g.Lengths).Select(Place).ToHashSet();
        var numbers = facts
            .Groups.Lengths.Where(l => changed.Contains(Place(l)))
            .GroupBy(Place)
            .Select(g => (Lengths: g.ToList(), Now: g.Select(l => l.Of(Removed)).ToList()))
            .ToList();
        var before = numbers
            .Where(n => n.Lengths[0].Attribute is null)
            .ToDictionary(n => n.Lengths[0], n => facts.In(n.Lengths[0].Scope).Of(n.Lengths[0].Node.Input[n.Lengths[0].Input]));
        var cuts = units
            .SelectMany(u => u.Key.Members.SelectMany(m => u.Value.SelectMany(m.Indices).Select(i => (m.Tensor, m.Axis, Index: i))))
            .GroupBy<(TensorProto Tensor, int Axis, long Index), object>(c => c.Tensor, ReferenceEqualityComparer.Instance)
            .SelectMany(t => t.GroupBy(c => c.Axis))
            .Select(c => Cut(c.First().Tensor, c.Key, c.Select(x => x.Index).ToHashSet()))
            .ToList();
        var edit = new ModelEdit(model);
        foreach (var (lengths, now) in numbers)
            if (lengths[0].Attribute is { } attribute)
                Set(edit, lengths, now, attribute);
            else
                Set(edit, lengths, now, before[lengths[0]]);
        Forget(model.Graph);
        return cuts;

        static NumberPlace Place(ChannelLength length) => new(length.Node, length.Attribute, length.Input);

        static AxisCut Cut(TensorProto tensor, int axis, HashSet<long> removed) =>
            new(tensor, axis, [.. Enumerable.Range(0, checked((int)tensor.Dims[axis])).Where(i => !removed.Contains(i))]);
    }

    /// <summary>Cuts the bytes of a constant.</summary>
    /// <param name="bytes">Its bytes, row-major.</param>
    /// <param name="dims">Its dimensions, which become those of the result.</param>
    /// <param name="elementBytes">Bytes of an element.</param>
    /// <param name="cuts">What stays of its axes, each axis at most once.</param>
    public static byte[] Cut(ReadOnlySpan<byte> bytes, IList<long> dims, int elementBytes, IEnumerable<AxisCut> cuts)
    {
        var now = bytes.ToArray();
        foreach (var (_, axis, kept) in cuts)
        {
            var outer = dims.Take(axis).Aggregate(1L, (a, b) => a * b);
            var inner = dims.Skip(axis + 1).Aggregate((long)elementBytes, (a, b) => a * b);
            var (from, to) = (dims[axis] * inner, kept.Count * inner);
            var next = new byte[outer * to];
            for (long o = 0; o < outer; o++)
            for (var i = 0; i < kept.Count; i++)
                now.AsSpan((int)(o * from + kept[i] * inner), (int)inner).CopyTo(next.AsSpan((int)(o * to + i * inner)));
            (now, dims[axis]) = (next, kept.Count);
        }
        return now;
    }

    // Shapes that were declared of values in between hold no longer.
    private static void Forget(GraphProto graph)
    {
        graph.ValueInfo.Clear();
        foreach (var inner in graph.Node.SelectMany(n => n.Attribute).SelectMany(a => a.Graphs.Append(a.G)).OfType<GraphProto>())
            Forget(inner);
    }

    private static void Set(ModelEdit edit, List<ChannelLength> lengths, List<long> now, string attribute)
    {
        var (node, scope) = (lengths[0].Node, lengths[0].Scope);
        if (attribute == "split" && scope.Opset >= SplitWithInput)
        {
            // Even parts are told from now on.
            var name = edit.Int64s(scope, [.. now]);
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

    // A constant of its own where every number is known, else Where(elements told, their numbers, what was computed before).
    private static void Set(ModelEdit edit, List<ChannelLength> lengths, List<long> now, ValueFact before)
    {
        var (node, scope, input) = (lengths[0].Node, lengths[0].Scope, lengths[0].Input);
        var scalar = before.Shape!.Count == 0;
        var count = scalar ? 1 : (int)before.Shape[0].Value!.Value;
        long[] dims = scalar ? [] : [count];
        var (told, values) = (new byte[count], before.Constants?.ToArray() ?? new long[count]);
        for (var i = 0; i < now.Count; i++)
            (told[lengths[i].Element], values[lengths[i].Element]) = (1, now[i]);
        var numbers = edit.Share(scope, "lengths", Numbers(before.Type, values, dims));
        if (before.Constants is not null)
        {
            node.Input[input] = numbers;
            return;
        }
        var which = edit.Share(scope, "changed", ModelEdit.Tensor(DataType.Bool, told, dims));
        var name = edit.FreshName(node.Input[input] + "_n");
        ModelEdit.Replace(scope, node, [ModelEdit.Node("Where", [which, numbers, node.Input[input]], [name]), node]);
        node.Input[input] = name;
    }

    private static TensorProto Numbers(DataType type, long[] values, long[] dims) =>
        type == DataType.Int32
            ? ModelEdit.Tensor(type, MemoryMarshal.AsBytes<int>(Array.ConvertAll(values, v => (int)v)), dims)
            : ModelEdit.Tensor(type, MemoryMarshal.AsBytes<long>(values), dims);

    // Nodes of two branches may be the same in all that they say, and are two.
    private readonly record struct NumberPlace(NodeProto Node, string? Attribute, int Input)
    {
        public bool Equals(NumberPlace other) => ReferenceEquals(Node, other.Node) && Attribute == other.Attribute && Input == other.Input;

        public override int GetHashCode() => HashCode.Combine(RuntimeHelpers.GetHashCode(Node), Attribute, Input);
    }
}
