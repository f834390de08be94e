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
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(raw);
        }
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
