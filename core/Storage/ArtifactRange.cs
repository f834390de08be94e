namespace Serverless.Core.Storage;

/// <summary>A range of an object, read as an object of its own.</summary>
/// <param name="source">The object.</param>
/// <param name="offset">First byte.</param>
/// <param name="length">Bytes.</param>
/// <param name="owns">Whether <paramref name="source"/> is disposed with this.</param>
internal sealed class ArtifactRange(ArtifactReader source, long offset, long length, bool owns)
    : ArtifactReader(source.Artifact with { Length = length })
{
    /// <inheritdoc/>
    public override ValueTask ReadAsync(long at, Memory<byte> destination, CancellationToken cancellation) =>
        at >= 0 && at + destination.Length <= length
            ? source.ReadAsync(offset + at, destination, cancellation)
            : throw new EndOfStreamException($"{Artifact.Path} ends at {length}.");

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => owns ? source.DisposeAsync() : ValueTask.CompletedTask;
}
