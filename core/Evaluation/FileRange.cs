namespace Serverless.Core.Evaluation;

/// <summary>A forward cursor over part of a seekable stream that others read too.</summary>
/// <param name="file">The stream; not disposed.</param>
/// <param name="start">First byte.</param>
/// <param name="end">Behind the last byte.</param>
internal sealed class FileRange(Stream file, long start, long end) : Stream
{
    private long at = start;

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => false;

    /// <inheritdoc/>
    public override long Length { get; } = end - start;

    /// <inheritdoc/>
    public override long Position
    {
        get => Length - (end - at);
        set => throw new NotSupportedException();
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override int Read(Span<byte> buffer)
    {
        file.Position = at;
        var read = file.Read(buffer[..(int)Math.Min(buffer.Length, end - at)]);
        at += read;
        return read;
    }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void Flush() { }
}
