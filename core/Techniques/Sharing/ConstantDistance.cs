using System.Security.Cryptography;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Compares constants in parts: none is held in memory as a whole.</summary>
/// <param name="work">The model.</param>
internal sealed class ConstantDistance(GraphWork work)
{
    private const int Part = 1 << 18;

    /// <summary>SHA-256 of a constant's bytes.</summary>
    public async Task<string> HashAsync(TensorProto tensor, CancellationToken cancellation)
    {
        using var sha = SHA256.Create();
        await using (var sink = new CryptoStream(Stream.Null, sha, CryptoStreamMode.Write))
            await work.CopyToAsync(tensor, sink, cancellation);
        return Convert.ToHexStringLower(sha.Hash!);
    }

    /// <summary>‖a‖; NaN or infinity where it holds one.</summary>
    public async Task<double> NormAsync(TensorProto tensor, CancellationToken cancellation)
    {
        double squares = 0;
        for (long at = 0; at < Elements(tensor); at += Part)
            squares += Squares(await ReadAsync(tensor, at, cancellation));
        return Math.Sqrt(squares);
    }

    /// <summary>‖a − b‖ / max(‖a‖, ‖b‖), of constants of equal dimensions that are finite and not both zero.</summary>
    public async Task<double> BetweenAsync(TensorProto a, TensorProto b, CancellationToken cancellation)
    {
        double difference = 0,
            first = 0,
            second = 0;
        for (long at = 0; at < Elements(a); at += Part)
        {
            var (x, y) = (await ReadAsync(a, at, cancellation), await ReadAsync(b, at, cancellation));
            (first, second) = (first + Squares(x), second + Squares(y));
            for (var i = 0; i < x.Length; i++)
                difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        }
        return Math.Sqrt(difference / Math.Max(first, second));
    }

    /// <summary>Writes the mean of constants of equal dimensions to the store, and makes a tensor point at it.</summary>
    /// <param name="tensors">The constants, of a float type.</param>
    /// <param name="target">The tensor that becomes their mean.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public async Task MeanAsync(IReadOnlyList<TensorProto> tensors, TensorProto target, CancellationToken cancellation)
    {
        var sources = tensors.Select(t => t.Clone()).ToList();
        var path = await work.WriteAsync((stream, token) => WriteMeanAsync(sources, stream, token), cancellation);
        TensorRef.Point(target, path, 0, TensorRef.From(sources[0], sources[0].Name).Length);
    }

    private async Task WriteMeanAsync(IReadOnlyList<TensorProto> sources, Stream stream, CancellationToken cancellation)
    {
        var sums = new double[(int)Math.Min(Part, Elements(sources[0]))];
        for (long at = 0; at < Elements(sources[0]); at += Part)
        {
            var length = 0;
            Array.Clear(sums);
            foreach (var source in sources)
            {
                var part = await ReadAsync(source, at, cancellation);
                length = part.Length;
                for (var i = 0; i < part.Length; i++)
                    sums[i] += part[i];
            }
            var mean = new float[length];
            for (var i = 0; i < length; i++)
                mean[i] = (float)(sums[i] / sources.Count);
            await stream.WriteAsync(FloatConversion.FromFloat(mean, sources[0].DataType), cancellation);
        }
    }

    private async Task<float[]> ReadAsync(TensorProto tensor, long at, CancellationToken cancellation)
    {
        var floats = new float[(int)Math.Min(Part, Elements(tensor) - at)];
        if (tensor.DataLocation != TensorProto.Types.DataLocation.External)
        {
            var width = DataTypes.Bits(tensor.DataType) / 8;
            var bytes = (await work.ReadAsync(tensor, cancellation)).Slice((int)at * width, floats.Length * width);
            FloatConversion.ToFloat(bytes.Span, tensor.DataType, floats);
            return floats;
        }
        await using var reader = await work.OpenAsync(tensor, cancellation);
        await reader.ReadAsync(at, floats, cancellation);
        return floats;
    }

    private static long Elements(TensorProto tensor) => TensorRef.Count(tensor.Dims) ?? 0;

    private static double Squares(float[] values)
    {
        double squares = 0;
        foreach (double value in values)
            squares += value * value;
        return squares;
    }
}
