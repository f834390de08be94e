using System.Numerics.Tensors;

namespace Serverless.Benchmarks;

/// <summary>
/// Windows of a batch of square pictures, channels last: columns for convolutions of 5 × 5 without padding, and the largest of 2 × 2.
/// </summary>
internal static class Windows
{
    /// <summary>Length of the side of a convolution's window.</summary>
    public const int Kernel = 5;

    /// <summary>Copies the windows of pictures to rows: positions × (kernel rows, kernel columns, channels).</summary>
    /// <param name="pictures">batch × side × side × channels.</param>
    /// <param name="columns">Receives the rows.</param>
    /// <param name="batch">Pictures.</param>
    /// <param name="side">Length of their side.</param>
    /// <param name="channels">Channels.</param>
    public static void ToColumns(double[] pictures, double[] columns, int batch, int side, int channels) =>
        EachRow(
            batch,
            side,
            channels,
            (column, picture, length) => pictures.AsSpan(picture, length).CopyTo(columns.AsSpan(column, length))
        );

    /// <summary>Adds rows to the pictures whose windows they are: the gradient of <see cref="ToColumns"/>.</summary>
    public static void FromColumns(double[] columns, double[] pictures, int batch, int side, int channels)
    {
        Array.Clear(pictures);
        EachRow(
            batch,
            side,
            channels,
            (column, picture, length) =>
            {
                var sum = pictures.AsSpan(picture, length);
                TensorPrimitives.Add(sum, columns.AsSpan(column, length), sum);
            }
        );
    }

    /// <summary>The largest of each 2 × 2 pixels, and where it was.</summary>
    /// <param name="pictures">batch × side × side × channels.</param>
    /// <param name="largest">Receives batch × side/2 × side/2 × channels.</param>
    /// <param name="places">Receives their places in <paramref name="pictures"/>.</param>
    /// <param name="batch">Pictures.</param>
    /// <param name="side">Length of their side, even.</param>
    /// <param name="channels">Channels.</param>
    public static void Largest(double[] pictures, double[] largest, int[] places, int batch, int side, int channels) =>
        Parallel.For(
            0,
            batch * side / 2,
            row =>
            {
                var (to, row0) = (row * (side / 2) * channels, 2 * row * side * channels);
                for (var at = 0; at < side / 2 * channels; at++)
                {
                    var first = row0 + at / channels * 2 * channels + at % channels;
                    var best = first;
                    foreach (var other in (ReadOnlySpan<int>)[first + channels, first + side * channels, first + (side + 1) * channels])
                        if (pictures[other] > pictures[best])
                            best = other;
                    (largest[to + at], places[to + at]) = (pictures[best], best);
                }
            }
        );

    // A row of a window is one run of numbers, channels being last.
    private static void EachRow(int batch, int side, int channels, Action<int, int, int> visit)
    {
        var (places, length) = (side - Kernel + 1, Kernel * channels);
        Parallel.For(
            0,
            batch,
            b =>
            {
                for (var y = 0; y < places; y++)
                for (var x = 0; x < places; x++)
                for (var k = 0; k < Kernel; k++)
                    visit(((((b * places) + y) * places + x) * Kernel + k) * length, ((b * side + y + k) * side + x) * channels, length);
            }
        );
    }
}
