using System.Buffers.Binary;
using System.IO.Compression;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Where the uncompressed entries of a .zip lie (PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16), so
/// that a place inside one is reached without reading what lies before. Offsets and sizes are checked against the file.
/// </summary>
internal static class StoredEntries
{
    private const uint LocalHeader = 0x04034b50,
        CentralHeader = 0x02014b50,
        End = 0x06054b50,
        End64 = 0x06064b50,
        Locator64 = 0x07064b50;
    private const int LocalLength = 30,
        CentralLength = 46,
        EndLength = 22,
        LocatorLength = 20,
        End64Length = 56;
    private const int LongestComment = ushort.MaxValue;
    private const ushort Zip64 = 1,
        Encrypted = 1;

    /// <summary>Name of each entry that is stored as it is → its first byte in the file and its length.</summary>
    /// <param name="stream">The file.</param>
    /// <param name="zip">The same file, opened.</param>
    /// <exception cref="InvalidDataException">An entry is longer than the room it has, or is not where it should be.</exception>
    public static IReadOnlyDictionary<string, (long Offset, long Length)> Of(Stream stream, ZipArchive zip)
    {
        var found = new Dictionary<string, (long, long)>(StringComparer.Ordinal);
        var directory = DirectoryStart(stream);
        var at = directory;
        var records = new List<Record>();
        foreach (var entry in zip.Entries)
        {
            var (record, next) = Read(stream, at);
            // What the archive was opened by and what was read here are the same, or neither is trusted.
            if (record.Length != entry.Length || record.Compressed != entry.CompressedLength)
                throw new InvalidDataException($"The entry '{entry.FullName}' is described in two ways.");
            records.Add(record);
            at = next;
        }
        var starts = records.Select(r => r.Header).Append(directory).Order().ToArray();
        foreach (var (entry, record) in zip.Entries.Zip(records))
        {
            if (record.Method != 0 || (record.Flags & Encrypted) != 0)
                continue;
            var header = Bytes(stream, record.Header, LocalLength);
            if (UInt32(header, 0) != LocalHeader || UInt16(header, 8) != 0)
                throw new InvalidDataException($"The entry '{entry.FullName}' is not where the directory says.");
            var offset = record.Header + LocalLength + UInt16(header, 26) + UInt16(header, 28);
            var place = Array.BinarySearch(starts, record.Header + 1);
            var end =
                place >= 0 ? starts[place]
                : ~place < starts.Length ? starts[~place]
                : directory;
            if (record.Compressed != record.Length || record.Length > end - offset)
                throw new InvalidDataException($"The entry '{entry.FullName}' says it is {record.Length} bytes where {end - offset} are.");
            found.TryAdd(entry.FullName, (offset, record.Length));
        }
        return found;
    }

    private static long DirectoryStart(Stream stream)
    {
        var count = (int)Math.Min(stream.Length, EndLength + LongestComment);
        var tail = Bytes(stream, stream.Length - count, count);
        var at = tail.Length - EndLength;
        while (at >= 0 && UInt32(tail, at) != End)
            at--;
        if (at < 0)
            throw new InvalidDataException("The archive has no end record.");
        long offset = UInt32(tail, at + 16);
        if (offset != uint.MaxValue || at < LocatorLength || UInt32(tail, at - LocatorLength) != Locator64)
            return offset;
        var end64 = Bytes(stream, Int64(tail, at - LocatorLength + 8), End64Length);
        return UInt32(end64, 0) == End64 ? Int64(end64, 48) : throw new InvalidDataException("The archive has no end record.");
    }

    private static (Record Record, long Next) Read(Stream stream, long at)
    {
        var fixedPart = Bytes(stream, at, CentralLength);
        if (UInt32(fixedPart, 0) != CentralHeader)
            throw new InvalidDataException("The archive's directory is damaged.");
        var (name, extra, comment) = (UInt16(fixedPart, 28), UInt16(fixedPart, 30), UInt16(fixedPart, 32));
        long compressed = UInt32(fixedPart, 20),
            length = UInt32(fixedPart, 24),
            header = UInt32(fixedPart, 42);
        var fields = Bytes(stream, at + CentralLength + name, extra);
        for (var f = 0; f + 4 <= fields.Length; f += 4 + UInt16(fields, f + 2))
        {
            if (UInt16(fields, f) != Zip64)
                continue;
            var (next, stop) = (f + 4, Math.Min(fields.Length, f + 4 + UInt16(fields, f + 2)));
            length = Wide(length);
            compressed = Wide(compressed);
            header = Wide(header);
            break;

            long Wide(long narrow)
            {
                if (narrow != uint.MaxValue || next + 8 > stop)
                    return narrow;
                next += 8;
                return Int64(fields, next - 8);
            }
        }
        return (
            new Record(UInt16(fixedPart, 10), UInt16(fixedPart, 8), compressed, length, header),
            at + CentralLength + name + extra + comment
        );
    }

    private readonly record struct Record(ushort Method, ushort Flags, long Compressed, long Length, long Header);

    private static byte[] Bytes(Stream stream, long at, int count)
    {
        if (at < 0 || at > stream.Length - count)
            throw new InvalidDataException("The archive is cut short.");
        var bytes = new byte[count];
        stream.Position = at;
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static ushort UInt16(byte[] bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(at));

    private static uint UInt32(byte[] bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at));

    private static long Int64(byte[] bytes, int at) => BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(at));
}
