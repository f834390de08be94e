using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>A layer that takes the units of a group.</summary>
/// <param name="Weights">Wᵀ, n × rows: a column of W lies in one piece; changed.</param>
/// <param name="Inverse">(XᵀX / count + λ·I)⁻¹, n × n, each input scaled to 1, and W by as much; changed.</param>
/// <param name="Rows">Rows of W.</param>
/// <param name="Energy">Energy of its outputs, tr(W·XᵀX·Wᵀ) / count.</param>
/// <param name="Columns">Columns of each unit.</param>
internal sealed record SurgeonLayer(double[] Weights, double[] Inverse, int Rows, double Energy, IReadOnlyList<int[]> Columns)
{
    /// <summary>n.</summary>
    public int Width => Weights.Length / Rows;
}

/// <summary>
/// The optimal brain surgeon on groups of columns (Kurtic et al. 2023, "ZipLM: Inference-Aware Structured Pruning of Language Models",
/// section 3.1, eq. 3 and 4): the unit goes whose columns S cost least, Σ_rows w_S·(H⁻¹_SS)⁻¹·w_Sᵀ, the columns that stay make up for it,
/// and so again. Where several layers take the units, their relative costs add up.
/// </summary>
internal static class GroupSurgeon
{
    /// <summary>Orders the units.</summary>
    /// <param name="layers">The layers that take them.</param>
    /// <param name="units">How many units.</param>
    /// <param name="most">Units that are ordered; the others follow as they are.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static UnitOrder Order(IReadOnlyList<SurgeonLayer> layers, int units, int most, CancellationToken cancellation)
    {
        var (left, order, cost) = (Enumerable.Range(0, units).ToList(), new List<int>(), new List<double> { 0 });
        while (order.Count < most && left.Count > 1)
        {
            cancellation.ThrowIfCancellationRequested();
            var costs = new double[left.Count];
            foreach (var layer in layers)
                for (var i = 0; i < left.Count; i++)
                    costs[i] += Cost(layer, layer.Columns[left[i]], cancellation) / Math.Max(layer.Energy, double.Epsilon);
            var least = TensorPrimitives.IndexOfMin<double>(costs);
            order.Add(left[least]);
            cost.Add(cost[^1] + Math.Max(0, costs[least]));
            foreach (var layer in layers)
                Remove(layer, layer.Columns[left[least]], cancellation);
            left.RemoveAt(least);
        }
        foreach (var unit in left)
        {
            order.Add(unit);
            cost.Add(cost[^1]);
        }
        return new UnitOrder(order, cost);
    }

    private static double Cost(SurgeonLayer layer, int[] columns, CancellationToken cancellation)
    {
        if (columns is [var one])
            return TensorPrimitives.SumOfSquares<double>(Column(layer, one)) / layer.Inverse[one * layer.Width + one];
        if (SymmetricInverse.Of(Square(layer, columns), columns.Length, cancellation) is not { } inner)
            return double.PositiveInfinity;
        double all = 0;
        for (var i = 0; i < columns.Length; i++)
        for (var j = 0; j < columns.Length; j++)
            all += inner[i * columns.Length + j] * TensorPrimitives.Dot<double>(Column(layer, columns[i]), Column(layer, columns[j]));
        return all;
    }

    private static void Remove(SurgeonLayer layer, int[] columns, CancellationToken cancellation)
    {
        var n = layer.Width;
        if (SymmetricInverse.Of(Square(layer, columns), columns.Length, cancellation) is not { } inner)
            return;
        // (H⁻¹_SS)⁻¹·H⁻¹_S: what each column of S is worth to all columns.
        var worth = new double[columns.Length * n];
        for (var i = 0; i < columns.Length; i++)
        for (var j = 0; j < columns.Length; j++)
            AddTimes(layer.Inverse.AsSpan(columns[j] * n, n), inner[i * columns.Length + j], worth.AsSpan(i * n, n));
        var removed = columns
            .Select(c => (Weights: Column(layer, c).ToArray(), Inverse: layer.Inverse.AsSpan(c * n, n).ToArray()))
            .ToArray();
        for (var j = 0; j < n; j++)
        for (var i = 0; i < columns.Length; i++)
        {
            if (worth[i * n + j] is var by && by == 0)
                continue;
            AddTimes(removed[i].Weights, -by, Column(layer, j));
            AddTimes(removed[i].Inverse, -by, layer.Inverse.AsSpan(j * n, n));
        }
        foreach (var c in columns)
        {
            Column(layer, c).Clear();
            layer.Inverse.AsSpan(c * n, n).Clear();
            for (var j = 0; j < n; j++)
                layer.Inverse[j * n + c] = 0;
        }
    }

    private static double[] Square(SurgeonLayer layer, int[] columns)
    {
        var square = new double[columns.Length * columns.Length];
        for (var i = 0; i < columns.Length; i++)
        for (var j = 0; j < columns.Length; j++)
            square[i * columns.Length + j] = layer.Inverse[columns[i] * layer.Width + columns[j]];
        return square;
    }

    private static Span<double> Column(SurgeonLayer layer, int column) => layer.Weights.AsSpan(column * layer.Rows, layer.Rows);

    private static void AddTimes(ReadOnlySpan<double> values, double by, Span<double> to) =>
        TensorPrimitives.MultiplyAdd(values, by, to, to);
}
