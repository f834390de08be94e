using System.Buffers;
using Serverless.Core.Numerics;
using Serverless.Core.Onnx;
using Serverless.Core.Storage;

namespace Serverless.Core.Techniques;

/// <summary>Where a weight's bytes are in the store.</summary>
/// <param name="Path">The object.</param>
/// <param name="ETag">The version of it, or null for whatever is there.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="DataType">ONNX element type: FLOAT, DOUBLE, FLOAT16 or BFLOAT16.</param>
public sealed record WeightData(string Path, string? ETag, long Offset, long Length, int DataType)
{
    /// <summary>Opens the weight for reading.</summary>
    public async Task<WeightReader> OpenAsync(IArtifactStore store, CancellationToken cancellation) =>
        new(this, await store.OpenAsync(Path, ETag, cancellation));
}

/// <summary>Reads ranges of a weight as floats.</summary>
public sealed class WeightReader(WeightData data, ArtifactReader source) : IAsyncDisposable
{
    private float[]? factors;
    private long inner = 1;

    private readonly int width = DataTypes.Bits(data.DataType) / 8;

    /// <summary>Number of elements.</summary>
    public long Elements => data.Length / width;

    /// <summary>Fills <paramref name="floats"/> from element <paramref name="first"/> on.</summary>
    public async ValueTask ReadAsync(long first, Memory<float> floats, CancellationToken cancellation)
    {
        var raw = ArrayPool<byte>.Shared.Rent(Math.Min(1 << 20, floats.Length * width));
        try
        {
            var chunk = raw.Length / width;
            for (var done = 0; done < floats.Length; done += chunk)
            {
                var count = Math.Min(chunk, floats.Length - done);
                var bytes = raw.AsMemory(0, count * width);
                await source.ReadAsync(data.Offset + (first + done) * width, bytes, cancellation);
                FloatConversion.ToFloat(bytes.Span, data.DataType, floats.Span.Slice(done, count));
                if (factors is not null) Scale(floats.Span.Slice(done, count), first + done);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(raw);
        }
    }

    /// <summary>The same weight with the elements of each row multiplied; reads from the same source, which it does not own.</summary>
    /// <param name="by">A factor for each place in a row.</param>
    /// <param name="shape">The view that says what a row is.</param>
    public WeightReader Scaled(float[] by, LayerShape shape) => new(data, source) { factors = by, inner = shape.Inner };

    private void Scale(Span<float> floats, long first)
    {
        for (var i = 0; i < floats.Length; i++) floats[i] *= factors![(first + i) / inner % factors.Length];
    }

    /// <summary>Feeds the stored bytes, in order, to <paramref name="consume"/>.</summary>
    public async Task ScanAsync(Action<ReadOnlyMemory<byte>> consume, CancellationToken cancellation)
    {
        var raw = ArrayPool<byte>.Shared.Rent(1 << 20);
        try
        {
            for (long done = 0; done < data.Length;)
            {
                var chunk = raw.AsMemory(0, (int)Math.Min(raw.Length, data.Length - done));
                await source.ReadAsync(data.Offset + done, chunk, cancellation);
                consume(chunk);
                done += chunk.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(raw);
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => source.DisposeAsync();
}
