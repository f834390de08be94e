using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;

namespace Serverless.Pipeline.Tests.Techniques;

/// <summary>The kernel of one convolution that computes what several do, one behind the other, each axis in one of them.</summary>
internal static class KernelProduct
{
    public static float[] Of(IReadOnlyList<TensorProto> factors)
    {
        var (dims, values) = Read(factors[0]);
        foreach (var next in factors.Skip(1).Select(Read))
            (dims, values) = Behind(dims, values, next.Dims, next.Values);
        return [.. values.Select(v => (float)v)];
    }

    private static (long[] Dims, double[] Values) Read(TensorProto t) =>
        ([.. t.Dims], [.. MemoryMarshal.Cast<byte, float>(t.RawData.Span).ToArray().Select(v => (double)v)]);

    private static (long[] Dims, double[] Values) Behind(long[] a, double[] first, long[] b, double[] second)
    {
        // An axis of length one in either: the other's place is the product's.
        long[] kernel = [.. a.Skip(2).Zip(b.Skip(2), Math.Max)];
        long[] dims = [b[0], a[1], .. kernel];
        var (pixels, one, two) = (Count(kernel), Count(a[2..]), Count(b[2..]));
        var product = new double[b[0] * a[1] * pixels];
        for (var o = 0; o < b[0]; o++)
        for (var r = 0; r < a[0]; r++)
        for (var i = 0; i < a[1]; i++)
        for (var k = 0; k < pixels; k++)
            product[(o * a[1] + i) * pixels + k] +=
                second[(o * b[1] + r) * two + Place(k, kernel, b[2..])] * first[(r * a[1] + i) * one + Place(k, kernel, a[2..])];
        return (dims, product);
    }

    private static long Count(long[] kernel) => kernel.Aggregate(1L, (x, y) => x * y);

    private static long Place(long k, long[] kernel, long[] own)
    {
        var (place, each) = (0L, 1L);
        for (var axis = kernel.Length - 1; axis >= 0; axis--)
        {
            if (own[axis] > 1)
                (place, each) = (place + k % kernel[axis] * each, each * own[axis]);
            k /= kernel[axis];
        }
        return place;
    }
}
