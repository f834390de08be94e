using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Tests;

/// <summary>Removes units of groups from a model, by what the groups say and nothing else.</summary>
internal static class ZeroUnits
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
        var cuts = UnitRemoval.Apply(model, facts, units.ToDictionary(u => u.Key, u => (IReadOnlyList<int>)u.Value));
        foreach (var cut in cuts.GroupBy<AxisCut, object>(c => c.Tensor, ReferenceEqualityComparer.Instance))
        {
            var tensor = cut.First().Tensor;
            var (bytes, dims) = (TensorRef.InlineBytes(tensor), tensor.Dims.ToArray());
            Put(tensor, UnitRemoval.Cut(bytes.Span, dims, DataTypes.Bits(tensor.DataType) / 8, cut));
            tensor.Dims.Clear();
            tensor.Dims.AddRange(dims);
        }
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
