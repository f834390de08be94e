namespace Serverless.Core.Tests;

/// <summary>Inverses as a text book has them, for solvers to be compared with.</summary>
internal static class ReferenceInverse
{
    /// <summary>By Gauss and Jordan.</summary>
    /// <param name="h">A square matrix.</param>
    /// <param name="from">The first row and column that is taken.</param>
    public static double[,] Of(double[,] h, int from = 0)
    {
        var n = h.GetLength(0) - from;
        var a = new double[n, 2 * n];
        for (var i = 0; i < n; i++)
        {
            for (var j = 0; j < n; j++)
                a[i, j] = h[from + i, from + j];
            a[i, n + i] = 1;
        }
        for (var p = 0; p < n; p++)
        {
            var d = a[p, p];
            for (var j = 0; j < 2 * n; j++)
                a[p, j] /= d;
            for (var i = 0; i < n; i++)
                if (i != p && a[i, p] is var f && f != 0)
                    for (var j = 0; j < 2 * n; j++)
                        a[i, j] -= f * a[p, j];
        }
        var inverse = new double[n, n];
        for (var i = 0; i < n; i++)
        for (var j = 0; j < n; j++)
            inverse[i, j] = a[i, n + j];
        return inverse;
    }
}
