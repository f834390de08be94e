using Serverless.Core.Numerics;

namespace Serverless.Core.Statistics;

/// <summary>
/// XᵀX in double, for one group of channels. Rows are gathered and added as one matrix product; where the matrix is too
/// large to hold it lies in a file and is updated band by band.
/// </summary>
public sealed class GramMatrix : IDisposable
{
    private const int BandBytes = 32 << 20,
        BufferBytes = 16 << 20,
        LeastRows = 64,
        SmallAxis = 32;
    private readonly int band;
    private readonly double[] buffer;
    private readonly double[]? whole;
    private readonly FileStream? file;
    private int held;

    /// <summary>A matrix of zeros.</summary>
    /// <param name="axis">Its order.</param>
    /// <param name="spill">Whether it lies in a temporary file.</param>
    /// <param name="bufferBytes">Bytes of rows that are gathered before they are added, about.</param>
    public GramMatrix(int axis, bool spill, int bufferBytes = BufferBytes)
    {
        Axis = axis;
        buffer = new double[(long)axis * (axis <= SmallAxis ? LeastRows : Math.Clamp(bufferBytes / 8 / axis, LeastRows, 1024))];
        spill &= axis > SmallAxis;
        band = spill ? Math.Clamp(BandBytes / 8 / axis, 1, axis) : axis;
        if (!spill)
            whole = new double[(long)axis * axis];
        else
        {
            file = new FileStream(
                Path.GetTempFileName(),
                FileMode.Open,
                FileAccess.ReadWrite,
                FileShare.None,
                1 << 16,
                FileOptions.DeleteOnClose
            );
            file.SetLength((long)axis * axis * 8);
        }
    }

    /// <summary>Its order.</summary>
    public int Axis { get; }

    /// <summary>Bytes of it in memory.</summary>
    public long Held => (whole?.Length ?? 0) * 8L;

    /// <summary>Rows added.</summary>
    public long Rows { get; private set; }

    /// <summary>Where the next rows go: as many as fit; then <see cref="Added"/>.</summary>
    public Span<double> Next => buffer.AsSpan(held * Axis);

    /// <summary>Counts rows that were written to <see cref="Next"/>.</summary>
    public void Added(int rows)
    {
        held += rows;
        Rows += rows;
        if ((held + 1) * Axis > buffer.Length || Next.Length < buffer.Length / 2)
            Flush();
    }

    /// <summary>The matrix, row-major, of one that lies in memory.</summary>
    public double[] ToArray()
    {
        Flush();
        return whole is null ? throw new InvalidOperationException("The matrix lies in a file.") : [.. whole];
    }

    /// <summary>Writes the matrix out, row-major.</summary>
    public async Task WriteAsync(Stream stream, CancellationToken cancellation)
    {
        Flush();
        if (whole is not null)
        {
            var bytes = new byte[Math.Min(1 << 20, whole.Length * 8L)];
            for (long at = 0; at < whole.Length * 8L; at += bytes.Length)
            {
                var count = (int)Math.Min(bytes.Length, whole.Length * 8L - at);
                System.Runtime.InteropServices.MemoryMarshal.AsBytes(whole.AsSpan((int)(at / 8), count / 8)).CopyTo(bytes);
                await stream.WriteAsync(bytes.AsMemory(0, count), cancellation);
            }
            return;
        }
        file!.Position = 0;
        await file.CopyToAsync(stream, 1 << 20, cancellation);
    }

    /// <inheritdoc/>
    public void Dispose() => file?.Dispose();

    private void Flush()
    {
        if (held == 0)
            return;
        if (Axis <= SmallAxis)
        {
            AddSmall();
            return;
        }
        var rows = buffer.AsMemory(0, held * Axis);
        for (var start = 0; start < Axis; start += band)
        {
            var height = Math.Min(band, Axis - start);
            var columns = Columns(rows.Span, start, height);
            var sum = new double[(long)height * Axis];
            if (whole is not null)
            {
                MatrixProduct.Multiply(1, columns, true, rows, false, whole, sum, height, held, Axis);
                sum.CopyTo(whole, 0);
                continue;
            }
            var before = new double[sum.Length];
            file!.Position = (long)start * Axis * 8;
            file.ReadExactly(System.Runtime.InteropServices.MemoryMarshal.AsBytes(before.AsSpan()));
            MatrixProduct.Multiply(1, columns, true, rows, false, before, sum, height, held, Axis);
            file.Position = (long)start * Axis * 8;
            file.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<double>(sum));
        }
        held = 0;
    }

    // A depthwise convolution has hundreds of groups of nine: a call to the kernel would cost more than the product.
    private void AddSmall()
    {
        for (var r = 0; r < held; r++)
        {
            var row = buffer.AsSpan(r * Axis, Axis);
            for (var i = 0; i < Axis; i++)
            {
                var sum = whole.AsSpan(i * Axis, Axis);
                for (var j = 0; j < sum.Length; j++)
                    sum[j] += row[i] * row[j];
            }
        }
        held = 0;
    }

    private double[] Columns(ReadOnlySpan<double> rows, int start, int height)
    {
        if (height == Axis)
            return buffer;
        var columns = new double[held * height];
        for (var r = 0; r < held; r++)
            rows.Slice(r * Axis + start, height).CopyTo(columns.AsSpan(r * height));
        return columns;
    }
}
