using System.Buffers;
using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Scaling;

/// <summary>Constants of a graph and what their channels are to be multiplied by; read in parts, multiplied.</summary>
/// <param name="work">The model.</param>
internal sealed class ScaledConstants(GraphWork work)
{
    private const int Chunk = 1 << 18;
    private readonly Dictionary<TensorProto, Dictionary<int, double[]>> factors = new(ReferenceEqualityComparer.Instance);

    /// <summary>Multiplies channels, besides what they are multiplied by already.</summary>
    public void Multiply(ChannelConstant constant, Func<int, double> by)
    {
        if (!factors.TryGetValue(constant.Tensor, out var axes))
            factors[constant.Tensor] = axes = [];
        if (!axes.TryGetValue(constant.Axis, out var f))
            axes[constant.Axis] = f = Enumerable.Repeat(1.0, (int)constant.Tensor.Dims[constant.Axis]).ToArray();
        for (var c = 0; c < f.Length; c++)
            f[c] *= by(c);
    }

    /// <summary>Reads a constant as it is to be.</summary>
    /// <param name="tensor">The constant, float32.</param>
    /// <param name="take">Takes the index of a part's first element, and the part.</param>
    /// <param name="cancellation">Cancels the read.</param>
    public async Task ReadAsync(TensorProto tensor, Func<long, Memory<float>, Task> take, CancellationToken cancellation)
    {
        var axes = factors.GetValueOrDefault(tensor);
        var (rows, columns, layout) = (axes?.GetValueOrDefault(0), axes?.GetValueOrDefault(1), ChannelLayout.Of(tensor));
        if (TensorRef.From(tensor, tensor.Name).File is null)
        {
            var whole = MemoryMarshal.Cast<byte, float>(TensorRef.InlineBytes(tensor).Span).ToArray();
            Scale(whole, 0);
            await take(0, whole);
            return;
        }
        await using var reader = await work.OpenAsync(tensor, cancellation);
        var floats = ArrayPool<float>.Shared.Rent(Chunk);
        try
        {
            for (long at = 0; at < reader.Elements; at += Chunk)
            {
                var part = floats.AsMemory(0, (int)Math.Min(Chunk, reader.Elements - at));
                await reader.ReadAsync(at, part, cancellation);
                Scale(part.Span, at);
                await take(at, part);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(floats);
        }

        void Scale(Span<float> part, long first)
        {
            if (axes is null)
                return;
            for (var i = 0; i < part.Length; i++)
            {
                var (row, column) = layout.Place(first + i);
                part[i] = (float)(part[i] * (rows?[row] ?? 1) * (columns?[column] ?? 1));
            }
        }
    }

    /// <summary>The largest magnitude at each index of the first two axes.</summary>
    public async Task<float[,]> WidestAsync(TensorProto tensor, CancellationToken cancellation)
    {
        var layout = ChannelLayout.Of(tensor);
        var most = new float[tensor.Dims[0], layout.Width];
        await ReadAsync(
            tensor,
            (first, floats) =>
            {
                for (var i = 0; i < floats.Length; i++)
                {
                    var (row, column) = layout.Place(first + i);
                    most[row, column] = Math.Max(most[row, column], MathF.Abs(floats.Span[i]));
                }
                return Task.CompletedTask;
            },
            cancellation
        );
        return most;
    }

    /// <summary>Writes the constants that are multiplied by something, and points the model at them.</summary>
    public async Task WriteAsync(CancellationToken cancellation)
    {
        if (factors.Count == 0)
            return;
        var places = new List<(TensorProto Tensor, long Offset, long Length)>();
        var location = await work.WriteAsync(
            async (stream, token) =>
            {
                places.Clear();
                long at = 0;
                foreach (var tensor in factors.Keys)
                {
                    var start = at;
                    await ReadAsync(
                        tensor,
                        async (_, floats) =>
                        {
                            var bytes = MemoryMarshal.AsBytes(floats.Span).ToArray();
                            await stream.WriteAsync(bytes, token);
                            at += bytes.Length;
                        },
                        token
                    );
                    places.Add((tensor, start, at - start));
                }
            },
            cancellation
        );
        foreach (var (tensor, offset, length) in places)
            TensorRef.Point(tensor, location, offset, length);
    }
}
