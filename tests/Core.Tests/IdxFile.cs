using System.Buffers.Binary;
using System.IO.Compression;

namespace Serverless.TestSupport;

/// <summary>
/// An array of bytes in the IDX format of LeCun's MNIST files: lengths of the axes, the first in front, and the elements.
/// </summary>
/// <param name="Shape">Lengths of the axes.</param>
/// <param name="Elements">The elements, row-major.</param>
internal sealed record IdxFile(int[] Shape, byte[] Elements)
{
    private const int Bytes = 8,
        MostAxes = 4,
        MostElements = 1 << 28;

    /// <summary>Reads a file packed by gzip.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">It is no array of unsigned bytes, is larger than 256 MB, or its length is another than its
    /// axes say.</exception>
    public static IdxFile Read(string path)
    {
        using var file = File.OpenRead(path);
        using var unpacked = new GZipStream(file, CompressionMode.Decompress);
        return Read(unpacked, path);
    }

    /// <summary>Reads a stream to its end.</summary>
    /// <param name="stream">The stream.</param>
    /// <param name="name">What errors call it.</param>
    /// <exception cref="InvalidDataException">As above.</exception>
    public static IdxFile Read(Stream stream, string name)
    {
        Span<byte> head = stackalloc byte[4 + 4 * MostAxes];
        Fill(head[..4]);
        if (head[0] != 0 || head[1] != 0 || head[2] != Bytes || head[3] is 0 or > MostAxes)
            throw new InvalidDataException($"{name} holds no array of unsigned bytes with 1 to {MostAxes} axes.");
        Fill(head[4..(4 + 4 * head[3])]);
        var (shape, elements) = (new int[head[3]], 1L);
        for (var a = 0; a < shape.Length; a++)
        {
            shape[a] = BinaryPrimitives.ReadInt32BigEndian(head[(4 + 4 * a)..]);
            if (shape[a] <= 0 || (elements *= shape[a]) > MostElements)
                throw new InvalidDataException($"{name} has an axis of {shape[a]}, or more than {MostElements:N0} elements.");
        }
        var array = new byte[elements];
        Fill(array);
        return stream.ReadByte() < 0
            ? new IdxFile(shape, array)
            : throw new InvalidDataException($"{name} is longer than its {elements:N0} elements.");

        void Fill(Span<byte> part)
        {
            if (stream.ReadAtLeast(part, part.Length, throwOnEndOfStream: false) < part.Length)
                throw new InvalidDataException($"{name} ends before its last element.");
        }
    }
}
