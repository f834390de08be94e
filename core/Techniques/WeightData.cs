using System.Buffers;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
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
    /// <summary>Where a tensor's bytes are.</summary>
    /// <param name="reference">The tensor, whose bytes lie in a file.</param>
    /// <param name="folder">Store folder that file names are relative to.</param>
    /// <param name="etags">Versions of store paths; a path that is absent is read as it is.</param>
    public static WeightData Of(TensorRef reference, string folder, IReadOnlyDictionary<string, string> etags)
    {
        var path = ModelWriter.Resolve(folder, reference.File!);
        return new WeightData(path, etags.GetValueOrDefault(path), reference.Offset, reference.Length, reference.DataType);
    }

    /// <summary>Reads the bytes whole.</summary>
    public async Task<byte[]> BytesAsync(IArtifactStore store, CancellationToken cancellation)
    {
        await using var reader = await store.OpenAsync(Path, ETag, cancellation);
        var bytes = new byte[Length];
        await reader.ReadAsync(Offset, bytes, cancellation);
        return bytes;
    }

    /// <summary>Opens the weight for reading.</summary>
    public async Task<WeightReader> OpenAsync(IArtifactStore store, CancellationToken cancellation) =>
        new(this, await store.OpenAsync(Path, ETag, cancellation));

    /// <summary>Counts the elements of a weight that are not zero.</summary>
    /// <param name="store">Where its bytes are, unless they are inline.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="folder">Store folder that file names are relative to.</param>
    /// <param name="etags">Versions of store paths.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<long> NonzeroAsync(
        IArtifactStore store,
        Weight weight,
        string folder,
        IReadOnlyDictionary<string, string> etags,
        CancellationToken cancellation
    )
    {
        var reference = weight.Reference;
        if (reference.File is null)
        {
            var floats = new float[reference.Elements];
            FloatConversion.ToFloat(TensorRef.InlineBytes(weight.Tensor).Span, reference.DataType, floats);
            return floats.Length - floats.AsSpan().Count(0f);
        }
        await using var reader = await Of(reference, folder, etags).OpenAsync(store, cancellation);
        long nonzero = 0;
        await reader.EachAsync((_, part) => nonzero += part.Length - part.Count(0f), cancellation);
        return nonzero;
    }
}

/// <summary>Reads ranges of a weight as floats; a weight of up to <see cref="Whole"/> bytes is read from the store once.</summary>
public sealed class WeightReader : IAsyncDisposable
{
    /// <summary>Bytes of the largest weight that is held, and of the longest read of a larger one.</summary>
    public const int Whole = 4 << 20;

    private const int Part = 1 << 18;

    private readonly WeightData data;
    private readonly ArtifactReader source;
    private readonly Held held;
    private readonly int width;
    private readonly float[]? factors;
    private readonly long inner = 1;

    /// <summary>Reads a weight.</summary>
    /// <param name="data">Where it is.</param>
    /// <param name="source">The object, which is disposed with this.</param>
    public WeightReader(WeightData data, ArtifactReader source) =>
        (this.data, this.source, held, width) = (data, source, new Held(), DataTypes.Bits(data.DataType) / 8);

    private WeightReader(WeightReader other, float[] by, long inner) =>
        (data, source, held, width, factors, this.inner) = (other.data, other.source, other.held, other.width, by, inner);

    /// <summary>ONNX element type.</summary>
    public int DataType => data.DataType;

    /// <summary>Number of elements.</summary>
    public long Elements => data.Length / width;

    /// <summary>Fills <paramref name="floats"/> from element <paramref name="first"/> on.</summary>
    public async ValueTask ReadAsync(long first, Memory<float> floats, CancellationToken cancellation)
    {
        var raw = ArrayPool<byte>.Shared.Rent((int)Math.Min(Whole, (long)floats.Length * width));
        try
        {
            var chunk = raw.Length / width;
            for (var done = 0; done < floats.Length; done += chunk)
            {
                var count = Math.Min(chunk, floats.Length - done);
                var bytes = raw.AsMemory(0, count * width);
                await BytesAsync((first + done) * width, bytes, cancellation);
                FloatConversion.ToFloat(bytes.Span, data.DataType, floats.Span.Slice(done, count));
                if (factors is not null)
                    Scale(floats.Span.Slice(done, count), first + done);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(raw);
        }
    }

    /// <summary>Feeds all elements, in order and in parts, to <paramref name="see"/>, with the index of each part's first.</summary>
    public async Task EachAsync(Action<long, ReadOnlySpan<float>> see, CancellationToken cancellation)
    {
        var floats = ArrayPool<float>.Shared.Rent((int)Math.Min(Elements, Part));
        try
        {
            for (long at = 0; at < Elements; at += Part)
            {
                var part = floats.AsMemory(0, (int)Math.Min(Part, Elements - at));
                await ReadAsync(at, part, cancellation);
                see(at, part.Span);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(floats);
        }
    }

    /// <summary>The same weight with the elements of each row multiplied; reads from the same source, which it does not own.</summary>
    /// <param name="by">A factor for each place in a row.</param>
    /// <param name="shape">The view that says what a row is.</param>
    public WeightReader Scaled(float[] by, LayerShape shape) => new(this, by, shape.Inner);

    /// <summary>Feeds the stored bytes, in order, to <paramref name="consume"/>.</summary>
    public Task ScanAsync(Action<ReadOnlyMemory<byte>> consume, CancellationToken cancellation) =>
        ScanAsync(
            (bytes, _) =>
            {
                consume(bytes);
                return ValueTask.CompletedTask;
            },
            cancellation
        );

    /// <summary>Feeds the stored bytes, in order, to <paramref name="consume"/>, which may change what it is given.</summary>
    public async Task ScanAsync(Func<Memory<byte>, CancellationToken, ValueTask> consume, CancellationToken cancellation)
    {
        var raw = ArrayPool<byte>.Shared.Rent((int)Math.Clamp(data.Length, 1, Whole));
        var most = raw.Length / width * width;
        try
        {
            for (long done = 0; done < data.Length; )
            {
                var chunk = raw.AsMemory(0, (int)Math.Min(most, data.Length - done));
                await BytesAsync(done, chunk, cancellation);
                await consume(chunk, cancellation);
                done += chunk.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(raw);
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        if (factors is not null)
            return ValueTask.CompletedTask;
        if (held.Bytes is { } bytes)
            ArrayPool<byte>.Shared.Return(bytes);
        held.Bytes = null;
        return source.DisposeAsync();
    }

    private async ValueTask BytesAsync(long offset, Memory<byte> bytes, CancellationToken cancellation)
    {
        if (data.Length > Whole)
        {
            await source.ReadAsync(data.Offset + offset, bytes, cancellation);
            return;
        }
        if (held.Bytes is null)
        {
            var whole = ArrayPool<byte>.Shared.Rent((int)data.Length);
            try
            {
                await source.ReadAsync(data.Offset, whole.AsMemory(0, (int)data.Length), cancellation);
                (held.Bytes, whole) = (whole, null);
            }
            finally
            {
                if (whole is not null)
                    ArrayPool<byte>.Shared.Return(whole);
            }
        }
        held.Bytes.AsMemory(0, (int)data.Length).Slice((int)offset, bytes.Length).CopyTo(bytes);
    }

    private void Scale(Span<float> floats, long first)
    {
        for (var i = 0; i < floats.Length; i++)
            floats[i] *= factors![(first + i) / inner % factors.Length];
    }

    private sealed class Held
    {
        public byte[]? Bytes { get; set; }
    }
}
