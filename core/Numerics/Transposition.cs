using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Serverless.Core.Numerics;

/// <summary>Transposition of a tile of floats, by 4×4 blocks in registers.</summary>
public static class Transposition
{
    /// <summary>target[c, r] = source[r, c] for a rows × columns tile.</summary>
    /// <param name="source">Row-major, rows <paramref name="sourceStride"/> apart.</param>
    /// <param name="sourceStride">Elements from one source row to the next.</param>
    /// <param name="rows">Rows of the source.</param>
    /// <param name="columns">Columns of the source.</param>
    /// <param name="target">Row-major, rows <paramref name="targetStride"/> apart.</param>
    /// <param name="targetStride">Elements from one target row to the next, at least <paramref name="rows"/>.</param>
    public static void Transpose(ReadOnlySpan<float> source, int sourceStride, int rows, int columns, Span<float> target, int targetStride)
    {
        ref var s = ref MemoryMarshal.GetReference(source);
        ref var t = ref MemoryMarshal.GetReference(target);
        var (fullRows, fullColumns) = (rows & ~3, columns & ~3);
        if (rows > 0 && columns > 0)
        {
            _ = source[(rows - 1) * sourceStride + columns - 1];
            _ = target[(columns - 1) * targetStride + rows - 1];
        }
        for (var c = 0; c < fullColumns; c += 4)
        {
            for (var r = 0; r < fullRows; r += 4)
            {
                var at = (nuint)(r * sourceStride + c);
                var a = Vector128.LoadUnsafe(ref s, at);
                var b = Vector128.LoadUnsafe(ref s, at + (nuint)sourceStride);
                var d = Vector128.LoadUnsafe(ref s, at + 2 * (nuint)sourceStride);
                var e = Vector128.LoadUnsafe(ref s, at + 3 * (nuint)sourceStride);
                var (ab0, ab1) = (Low(a, b), High(a, b));
                var (de0, de1) = (Low(d, e), High(d, e));
                var to = (nuint)(c * targetStride + r);
                Vector128.Create(ab0.GetLower(), de0.GetLower()).StoreUnsafe(ref t, to);
                Vector128.Create(ab0.GetUpper(), de0.GetUpper()).StoreUnsafe(ref t, to + (nuint)targetStride);
                Vector128.Create(ab1.GetLower(), de1.GetLower()).StoreUnsafe(ref t, to + 2 * (nuint)targetStride);
                Vector128.Create(ab1.GetUpper(), de1.GetUpper()).StoreUnsafe(ref t, to + 3 * (nuint)targetStride);
            }
        }
        for (var r = 0; r < rows; r++)
        for (var c = r < fullRows ? fullColumns : 0; c < columns; c++)
            target[c * targetStride + r] = source[r * sourceStride + c];

        static Vector128<float> Low(Vector128<float> a, Vector128<float> b) =>
            System.Runtime.Intrinsics.X86.Sse.IsSupported
                ? System.Runtime.Intrinsics.X86.Sse.UnpackLow(a, b)
                : Vector128.Create(a[0], b[0], a[1], b[1]);

        static Vector128<float> High(Vector128<float> a, Vector128<float> b) =>
            System.Runtime.Intrinsics.X86.Sse.IsSupported
                ? System.Runtime.Intrinsics.X86.Sse.UnpackHigh(a, b)
                : Vector128.Create(a[2], b[2], a[3], b[3]);
    }
}
