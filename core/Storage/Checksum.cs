using System.Globalization;
using System.IO.Hashing;
using System.Text;

namespace Serverless.Core.Storage;

/// <summary>Length and XXH128 of an object: enough against damage, not against an adversary.</summary>
/// <param name="Length">Bytes.</param>
/// <param name="Hash">32 hex digits.</param>
internal sealed record Checksum(long Length, string Hash)
{
    /// <summary>Largest stored form, in bytes.</summary>
    public const int Longest = 64;

    /// <summary>Hashes bytes.</summary>
    public static Checksum Of(ReadOnlySpan<byte> bytes) => new(bytes.Length, Convert.ToHexStringLower(XxHash128.Hash(bytes)));

    /// <summary>Hashes a whole object.</summary>
    public static async Task<Checksum> OfAsync(ArtifactReader reader, CancellationToken cancellation)
    {
        var hash = new XxHash128();
        await reader.ScanAsync(hash.Append, cancellation);
        return new Checksum(reader.Artifact.Length, Convert.ToHexStringLower(hash.GetCurrentHash()));
    }

    /// <summary>The stored form.</summary>
    public byte[] ToBytes() => Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Length} {Hash}"));

    /// <summary>Reads the stored form; null when it is damaged itself.</summary>
    public static Checksum? Parse(ReadOnlySpan<byte> bytes)
    {
        var parts = Encoding.ASCII.GetString(bytes).Split(' ');
        return
            parts is [var length, { Length: 32 } hash] && long.TryParse(length, NumberStyles.None, CultureInfo.InvariantCulture, out var n)
            ? new Checksum(n, hash)
            : null;
    }
}
