using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>An axis of a constant of a block whose indices belong to units.</summary>
/// <param name="Name">The constant.</param>
/// <param name="Dims">Its dimensions.</param>
/// <param name="Axis">The axis.</param>
/// <param name="Indices">Indices of each unit along it.</param>
internal sealed record UnitAxis(string Name, long[] Dims, int Axis, IReadOnlyList<int[]> Indices)
{
    /// <summary>A tensor with the units in another order.</summary>
    /// <param name="values">The tensor, row-major.</param>
    /// <param name="order">The unit that each place takes.</param>
    public float[] Permuted(float[] values, int[] order)
    {
        var (length, inner) = ((int)Dims[Axis], (int)Dims.Skip(Axis + 1).Aggregate(1L, (a, b) => a * b));
        var from = Enumerable.Range(0, length).ToArray();
        for (var u = 0; u < order.Length; u++)
        for (var i = 0; i < Indices[u].Length; i++)
            from[Indices[u][i]] = Indices[order[u]][i];
        var permuted = new float[values.Length];
        for (var start = 0; start < values.Length; start += length * inner)
        for (var i = 0; i < length; i++)
            values.AsSpan(start + from[i] * inner, inner).CopyTo(permuted.AsSpan(start + i * inner));
        return permuted;
    }

    /// <summary>The elements of each unit, one unit a row.</summary>
    public double[] Rows(float[] values)
    {
        var (length, inner) = ((int)Dims[Axis], (int)Dims.Skip(Axis + 1).Aggregate(1L, (a, b) => a * b));
        var rows = new double[(long)Indices.Count * (values.Length / length) * Indices[0].Length];
        var at = 0;
        foreach (var unit in Indices)
            for (var start = 0; start < values.Length; start += length * inner)
                foreach (var index in unit)
                foreach (var value in values.AsSpan(start + index * inner, inner))
                    rows[at++] = value;
        return rows;
    }
}

/// <summary>
/// Hidden units, channels, heads or elements of a head inside one block: in another order in all constants that hold them, the block
/// computes the same.
/// </summary>
/// <param name="Units">How many.</param>
/// <param name="Axes">The axes that hold them.</param>
internal sealed record UnitGroup(int Units, IReadOnlyList<UnitAxis> Axes)
{
    // The assignment takes their number cubed.
    private const int MostUnits = 4096;

    /// <summary>The groups inside a block, those of its matrices' places.</summary>
    public static IReadOnlyList<UnitGroup> Of(RepeatedBlock block, ChannelGroups groups)
    {
        var own = block.Block.Constants.ToHashSet(StringComparer.Ordinal);
        return
        [
            .. groups
                .All.Where(g => g.CanShrink && g.Units <= MostUnits)
                .Where(g => g.Members.All(m => m.Scope.Parent is null && m.Scope.Function is null && own.Contains(m.Name)))
                .Where(g => g.Members.Any(m => block.Matrices.Any(w => w.Value == m.Name)))
                .Where(g => g.Members.All(m => m.Tensor.Name == m.Name && DataTypes.IsWeightType(m.Tensor.DataType)))
                .Select(g => new UnitGroup(g.Units, [.. g.Members.Select(m => AxisOf(m, g.Units))])),
        ];
    }

    /// <summary>Whether the units of two blocks lie in the same places of their matrices.</summary>
    public bool IsLike(UnitGroup other, RepeatedBlock block, RepeatedBlock otherBlock)
    {
        var (mine, theirs) = (Places(block), other.Places(otherBlock));
        return Units == other.Units
            && mine.Count == theirs.Count
            && mine.Zip(theirs).All(p => p.First.Place == p.Second.Place && SameIndices(p.First.Axis, p.Second.Axis));
    }

    /// <summary>Its axes of the block's matrices, by matrix and axis.</summary>
    public IReadOnlyList<((int Matrix, int Axis) Place, UnitAxis Axis)> Places(RepeatedBlock block)
    {
        var numbers = block.Matrices.Select((m, i) => (m.Value, i)).ToDictionary(m => m.Value, m => m.i, StringComparer.Ordinal);
        return [.. Axes.Where(a => numbers.ContainsKey(a.Name)).Select(a => (Place: (numbers[a.Name], a.Axis), a)).OrderBy(p => p.Place)];
    }

    private static bool SameIndices(UnitAxis a, UnitAxis b) => a.Indices.Zip(b.Indices).All(p => p.First.AsSpan().SequenceEqual(p.Second));

    private static UnitAxis AxisOf(ChannelMember member, int units) =>
        new(
            member.Name,
            [.. member.Tensor.Dims],
            member.Axis,
            [.. Enumerable.Range(0, units).Select(u => member.Indices(u).Select(i => (int)i).ToArray())]
        );
}
