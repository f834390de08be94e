using System.Buffers;
using System.Numerics.Tensors;

namespace Serverless.Core.Statistics;

/// <summary>‖x‖² of each column x of a value's rows, for each group of channels: the diagonals of XᵀX.</summary>
/// <param name="view">How the rows are taken.</param>
/// <param name="most">Rows of a sample, at most.</param>
internal sealed class ColumnSquares(InputView view, int most)
{
    /// <summary>The sums, in double: an array of as many as the view has columns, for each group.</summary>
    public double[][] Sums { get; } = [.. Enumerable.Range(0, view.Groups).Select(_ => new double[view.Axis])];

    /// <summary>Rows that went into each group's.</summary>
    public long Rows { get; private set; }

    /// <summary>Adds the value's tensor of one sample; groups that hold what is not finite are left out.</summary>
    public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        var rented = ArrayPool<double>.Shared.Rent(checked(most * view.Axis));
        try
        {
            for (var g = 0; g < Sums.Length; g++)
            {
                var taken = rented.AsSpan(0, most * view.Axis);
                var rows = InputRows.Take(values, shape, view, g, most, taken);
                if (!double.IsFinite(TensorPrimitives.SumOfSquares<double>(taken[..(rows * view.Axis)])))
                    continue;
                for (var r = 0; r < rows; r++)
                {
                    var row = taken.Slice(r * view.Axis, view.Axis);
                    TensorPrimitives.MultiplyAdd<double>(row, row, Sums[g], Sums[g]);
                }
                if (g == 0)
                    Rows += rows;
            }
        }
        finally
        {
            ArrayPool<double>.Shared.Return(rented);
        }
    }
}
