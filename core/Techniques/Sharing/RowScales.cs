using Serverless.Core.Model;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Scales of the rows of a weight: the root of the mean square of what is not zero.</summary>
internal static class RowScales
{
    /// <summary>The scales; 1 for rows of zeros.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<CodebookValues> OfAsync(WeightReader weight, LayerShape shape, CancellationToken cancellation)
    {
        var (squares, counts) = (new double[shape.Rows], new long[shape.Rows]);
        await weight.EachAsync(
            (first, part) =>
            {
                _ = BlockScale.Bounds(part);
                for (var i = 0; i < part.Length; i++)
                    if (part[i] != 0)
                    {
                        var row = shape.Row(first + i);
                        squares[row] += (double)part[i] * part[i];
                        counts[row]++;
                    }
            },
            cancellation
        );
        var scales = new float[squares.Length];
        for (var row = 0; row < scales.Length; row++)
            scales[row] = counts[row] == 0 ? 1 : (float)Math.Sqrt(squares[row] / counts[row]);
        var stored = CodebookValues.Of(scales, scales.Length);
        return stored.Values.Contains(0f) ? new CodebookValues(scales, Core.Model.Schema.TensorProto.Types.DataType.Float) : stored;
    }
}
