namespace Serverless.Core.Techniques.Quantization;

/// <summary>The scales of several sign vectors that together are nearest to a block, by least squares.</summary>
internal static class SignFit
{
    private const double Ridge = 1e-9;

    /// <summary>Solves (BᵀB) α = Bᵀw for the scales of up to four sign vectors; leaves them where it is singular.</summary>
    /// <param name="weights">The block.</param>
    /// <param name="codes">Sign vectors, <paramref name="stride"/> apart.</param>
    /// <param name="stride">Bytes from one vector to the next.</param>
    /// <param name="plus">The code of +1.</param>
    /// <param name="scales">One a vector; replaced.</param>
    public static void Scales(ReadOnlySpan<float> weights, ReadOnlySpan<byte> codes, int stride, byte plus, Span<float> scales)
    {
        var n = scales.Length;
        Span<double> a = stackalloc double[n * (n + 1)];
        a.Clear();
        for (var i = 0; i < weights.Length; i++)
        for (var r = 0; r < n; r++)
        {
            var sign = codes[r * stride + i] == plus ? 1 : -1;
            for (var c = 0; c < n; c++)
                a[r * (n + 1) + c] += codes[c * stride + i] == plus ? sign : -sign;
            a[r * (n + 1) + n] += sign * (double)weights[i];
        }
        // BᵀB is positive semidefinite: no pivoting, and a vanishing pivot means that two vectors are the same.
        for (var k = 0; k < n; k++)
        {
            var pivot = a[k * (n + 1) + k];
            if (pivot < Ridge * weights.Length)
                return;
            for (var r = k + 1; r < n; r++)
            {
                var f = a[r * (n + 1) + k] / pivot;
                for (var c = k; c <= n; c++)
                    a[r * (n + 1) + c] -= f * a[k * (n + 1) + c];
            }
        }
        Span<double> x = stackalloc double[n];
        for (var k = n - 1; k >= 0; k--)
        {
            x[k] = a[k * (n + 1) + n];
            for (var c = k + 1; c < n; c++)
                x[k] -= a[k * (n + 1) + c] * x[c];
            x[k] /= a[k * (n + 1) + k];
        }
        for (var k = 0; k < n; k++)
            scales[k] = (float)x[k];
    }
}
