using System.Buffers;
using System.Runtime.InteropServices;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Scaling;

namespace Serverless.Core.Pipeline;

/// <summary>Constants of a graph and what their channels are to be multiplied by; read in parts, multiplied.</summary>
/// <param name="store">The store.</param>
/// <param name="folder">Store path that external data is relative to.</param>
/// <param name="etags">Versions of its files.</param>
internal sealed class ScaledConstants(IArtifactStore store, string folder, IReadOnlyDictionary<string, string> etags)
{
    private const int Chunk = 1 << 18;
    private readonly Dictionary<TensorProto, Dictionary<int, double[]>> factors = new(ReferenceEqualityComparer.Instance);

    /// <summary>Those that are multiplied by something.</summary>
    public IReadOnlyCollection<TensorProto> Changed => factors.Keys;

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
        var reference = TensorRef.From(tensor, tensor.Name);
        if (reference.File is not { } file)
        {
            var whole = MemoryMarshal.Cast<byte, float>(TensorRef.InlineBytes(tensor).Span).ToArray();
            Scale(whole, 0);
            await take(0, whole);
            return;
        }
        var path = ModelWriter.Resolve(folder, file);
        await using var reader = await new WeightData(
            path,
            etags.GetValueOrDefault(path),
            reference.Offset,
            reference.Length,
            reference.DataType
        ).OpenAsync(store, cancellation);
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
}
