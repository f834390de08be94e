using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Reads weights as matrices whose rows are inputs × kernel, and whose columns are outputs.</summary>
internal static class InputsFirst
{
    /// <summary>Reads a weight.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="layout">How it is stored.</param>
    /// <param name="refusal">What does not happen where it is not finite.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    /// <exception cref="LayerRefusedException">It holds NaN or infinity.</exception>
    public static async Task<double[]> ReadAsync(WeightReader weight, ProductLayout layout, string refusal, CancellationToken cancellation)
    {
        var matrix = new double[checked((int)layout.Elements)];
        var (rows, columns) = (matrix.Length / (int)layout.Outputs, (int)layout.Outputs);
        await weight.EachAsync(
            (at, part) =>
            {
                for (var i = 0; i < part.Length; i++)
                {
                    if (!float.IsFinite(part[i]))
                        throw new LayerRefusedException($"{refusal}: it holds NaN or infinity");
                    var place = (int)at + i;
                    matrix[layout.OutputsFirst ? place % rows * columns + place / rows : place] = part[i];
                }
            },
            cancellation
        );
        return matrix;
    }
}
