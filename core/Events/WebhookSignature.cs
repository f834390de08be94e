using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Serverless.Core.Events;

/// <summary>
/// The signature on hooks, in and out: <c>v1=</c> and the hex of HMAC-SHA256 (RFC 2104) over
/// <c>TIMESTAMP.BODY</c>, where the timestamp is Unix seconds and stands in a header of its own.
/// </summary>
public static class WebhookSignature
{
    /// <summary>Header of the timestamp.</summary>
    public const string TimestampHeader = "Serverless-Timestamp";

    /// <summary>Header of the signature.</summary>
    public const string SignatureHeader = "Serverless-Signature";

    /// <summary>How far a timestamp may be from now, either way; within it a signature is taken once.</summary>
    public static readonly TimeSpan Window = TimeSpan.FromMinutes(5);

    private const string Scheme = "v1=";

    /// <summary>Fewest characters of a secret.</summary>
    public const int ShortestSecret = 32;

    /// <summary>Signs a body.</summary>
    public static string Sign(string secret, long timestamp, ReadOnlySpan<byte> body)
    {
        using var hmac = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, Encoding.UTF8.GetBytes(secret));
        hmac.AppendData(Encoding.ASCII.GetBytes(timestamp.ToString(CultureInfo.InvariantCulture) + "."));
        hmac.AppendData(body);
        return Scheme + Convert.ToHexStringLower(hmac.GetHashAndReset());
    }

    /// <summary>Why a signature is refused, or null when it is right. A replay within the window is for the caller to notice.</summary>
    /// <param name="secret">The shared secret.</param>
    /// <param name="timestamp">The timestamp header.</param>
    /// <param name="signature">The signature header.</param>
    /// <param name="body">The body, as it came.</param>
    /// <param name="now">The time.</param>
    public static string? WhyRefused(string secret, string? timestamp, string? signature, ReadOnlySpan<byte> body, DateTimeOffset now)
    {
        if (secret.Length < ShortestSecret)
            return $"no secret of at least {ShortestSecret} characters is configured here";
        if (!long.TryParse(timestamp, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds))
            return $"the header {TimestampHeader} is missing or not Unix seconds";
        if (signature is null || !signature.StartsWith(Scheme, StringComparison.Ordinal))
            return $"the header {SignatureHeader} is missing or not '{Scheme}HEX'";
        var expected = Encoding.ASCII.GetBytes(Sign(secret, seconds, body));
        if (!CryptographicOperations.FixedTimeEquals(expected, Encoding.UTF8.GetBytes(signature)))
            return "the signature is wrong";
        return Math.Abs(now.ToUnixTimeSeconds() - (double)seconds) > Window.TotalSeconds ? "the timestamp is too old or too new" : null;
    }
}
