using System.Numerics.Tensors;
using Serverless.Core.Numerics;
using Serverless.Core.Statistics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Two factors of a table.</summary>
/// <param name="Location">Where A is in the store, V × k, row-major.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="Right">B, k × E, row-major.</param>
/// <param name="Rank">k.</param>
/// <param name="WeightedError">√(Σ p‖e − ê‖² / Σ p‖e‖²) over the rows e, weighted by p.</param>
/// <param name="Error">The same, each row weighted alike.</param>
internal sealed record FoundTable(string Location, long Length, float[] Right, int Rank, double WeightedError, double Error);

/// <summary>
/// The product of a rank nearest to a table whose rows weigh differently: Σ p‖e − aB‖² is least for B = Vᵀ, the first eigenvectors of
/// Σ p·eᵀe, and a = e·V (Eckart and Young 1936, of the matrix with rows √p·e). The table is read twice, in parts; only E × E sums of it are
/// held.
/// </summary>
/// <param name="work">The model.</param>
/// <param name="table">The table.</param>
/// <param name="weights">p of each row, positive.</param>
internal sealed class TableFactors(GraphWork work, EmbeddingTable table, double[] weights)
{
    private const int PartElements = 1 << 18;
    private readonly int columns = table.Columns;

    /// <summary>Finds the factors; null where the table holds NaN, infinity or zeros alone, or its type does not hold them.</summary>
    /// <param name="most">The largest rank.</param>
    /// <param name="energy">Share of Σ p‖e‖² from which on a smaller rank is taken; 1 for the largest.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public async Task<FoundTable?> FindAsync(int most, double energy, CancellationToken cancellation)
    {
        var moments = await MomentsAsync(cancellation);
        var trace = Enumerable.Range(0, columns).Sum(i => moments[i * columns + i]);
        if (!double.IsFinite(trace) || trace <= 0)
            return null;
        var (vectors, rank, captured) = Directions(moments, most, energy * trace, cancellation);
        // Each column of A as long as the row of B that it meets, as of singular vectors with √σ each.
        var (scales, mean) = (new double[rank], weights.Average());
        for (var k = 0; k < rank; k++)
            scales[k] = Math.Pow(captured[k] / mean, -0.25);
        double lost = 0,
            all = 0;
        long length = 0;
        float largest = 0;
        var location = await work.WriteAsync(
            async (stream, token) =>
            {
                (lost, all, length, largest) = (0, 0, 0, 0);
                await EachAsync(
                    async (_, rows, count) =>
                    {
                        var left = new double[count * rank];
                        MatrixProduct.Multiply(1, rows, false, vectors, false, null, left, count, columns, rank);
                        var squares = TensorPrimitives.SumOfSquares<double>(rows.Span);
                        (all, lost) = (all + squares, lost + squares - TensorPrimitives.SumOfSquares<double>(left));
                        var floats = new float[left.Length];
                        for (var i = 0; i < floats.Length; i++)
                            floats[i] = (float)(left[i] * scales[i % rank]);
                        largest = Math.Max(largest, MathF.Abs(TensorPrimitives.MaxMagnitude<float>(floats)));
                        var bytes = FloatConversion.FromFloat(floats, table.Weight.Type);
                        length += bytes.Length;
                        await stream.WriteAsync(bytes, token);
                    },
                    token
                );
            },
            cancellation
        );
        var right = new float[rank * columns];
        for (var k = 0; k < rank; k++)
        for (var j = 0; j < columns; j++)
            right[k * columns + j] = (float)(vectors[j * rank + k] / scales[k]);
        largest = Math.Max(largest, MathF.Abs(TensorPrimitives.MaxMagnitude<float>(right)));
        if (!(largest <= (table.Weight.Type == (int)DataType.Float16 ? (float)Half.MaxValue : float.MaxValue)))
            return null;
        return new FoundTable(
            location,
            length,
            right,
            rank,
            Math.Sqrt(Math.Max(0, 1 - captured.Sum() / trace)),
            Math.Sqrt(Math.Max(0, lost / all))
        );
    }

    // Orthonormal columns, E × rank, and the energy along each.
    private (double[] Vectors, int Rank, double[] Energies) Directions(
        double[] moments,
        int most,
        double enough,
        CancellationToken cancellation
    )
    {
        var found = LowRank.Of(moments, columns, columns, Math.Min(most, columns), 1, cancellation);
        var all = found.Left;
        for (var k = 0; k < found.Rank; k++)
        {
            var norm = Math.Sqrt(Enumerable.Range(0, columns).Sum(j => all[j * found.Rank + k] * all[j * found.Rank + k]));
            for (var j = 0; j < columns && norm > 0; j++)
                all[j * found.Rank + k] /= norm;
        }
        var images = new double[columns * found.Rank];
        MatrixProduct.Multiply(1, moments, false, all, false, null, images, columns, columns, found.Rank);
        var (energies, rank, captured) = (new double[found.Rank], 0, 0.0);
        for (var k = 0; k < found.Rank; k++)
            energies[k] = Enumerable.Range(0, columns).Sum(j => all[j * found.Rank + k] * images[j * found.Rank + k]);
        while (rank < found.Rank && (rank == 0 || captured < enough) && energies[rank] > 0)
            captured += energies[rank++];
        var vectors = new double[columns * rank];
        for (var j = 0; j < columns; j++)
            all.AsSpan(j * found.Rank, rank).CopyTo(vectors.AsSpan(j * rank));
        return (vectors, rank, energies[..rank]);
    }

    private async Task<double[]> MomentsAsync(CancellationToken cancellation)
    {
        using var gram = new GramMatrix(columns, spill: false);
        await EachAsync(
            (first, rows, count) =>
            {
                for (var r = 0; r < count; r++)
                {
                    TensorPrimitives.Multiply(rows.Span.Slice(r * columns, columns), Math.Sqrt(weights[first + r]), gram.Next[..columns]);
                    gram.Added(1);
                }
                return Task.CompletedTask;
            },
            cancellation
        );
        return gram.ToArray();
    }

    private async Task EachAsync(Func<long, Memory<double>, int, Task> see, CancellationToken cancellation)
    {
        await using var reader = await work.OpenAsync(table.Weight.Tensor, cancellation);
        var most = Math.Max(1, PartElements / columns);
        var (floats, rows) = (new float[most * columns], new double[most * columns]);
        for (long at = 0; at < table.Rows; at += most)
        {
            cancellation.ThrowIfCancellationRequested();
            var count = (int)Math.Min(most, table.Rows - at);
            await reader.ReadAsync(at * columns, floats.AsMemory(0, count * columns), cancellation);
            TensorPrimitives.ConvertTruncating(floats.AsSpan(0, count * columns), rows.AsSpan(0, count * columns));
            await see(at, rows.AsMemory(0, count * columns), count);
        }
    }
}
