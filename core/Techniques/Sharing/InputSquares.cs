using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Mean squares of what matrices take, input by input: E[x²].</summary>
internal static class InputSquares
{
    /// <summary>The inputs to observe, each with its matrix; a matrix whose input is not understood as rows has none.</summary>
    public static IReadOnlyList<(Weight Matrix, InputView View)> Views(IReadOnlyList<IReadOnlyList<RepeatedBlock>> sets) =>
        [
            .. sets.SelectMany(s => s)
                .SelectMany(b => b.Matrices)
                .Select(m => (Matrix: m, InputView.Of(m, LayerShape.Of(m)).Views))
                .Where(m => m.Views is [{ Groups: 1 }])
                .Select(m => (m.Matrix, m.Views[0])),
        ];

    /// <summary>The mean squares, by the name of the matrix; none of a matrix that no sample reached.</summary>
    public static async Task<IReadOnlyDictionary<string, double[]>> ReadAsync(
        GraphWork work,
        IReadOnlyList<(Weight Matrix, InputView View)> views,
        CancellationToken cancellation
    )
    {
        var squares = new Dictionary<string, double[]>(StringComparer.Ordinal);
        for (var i = 0; i < views.Count; i++)
            if (
                await work.ObservedAsync(i, cancellation) is { SquaresRows: > 0, Squares: [var sums] } seen
                && Array.TrueForAll(sums, double.IsFinite)
            )
                squares[views[i].Matrix.Value] = [.. sums.Select(s => s / seen.SquaresRows)];
        return squares;
    }
}
