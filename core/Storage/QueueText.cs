using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Serverless.Core.Storage;

/// <summary>Texts of queue messages and names of queues, as Azure Queue Storage takes them.</summary>
internal static class QueueText
{
    /// <summary>Bytes of UTF-8 that fit a message of 64 KiB after Base64.</summary>
    public const int Largest = (64 << 10) / 4 * 3;

    private const int LongestReason = 1000;
    private static readonly Regex QueueName = new("^[a-z0-9]+(-[a-z0-9]+)*$", RegexOptions.NonBacktracking);

    /// <summary>Whether a queue may be called so: 3 to 63 lower-case letters, digits and single hyphens within.</summary>
    public static bool IsName(string name) => name.Length is >= 3 and <= 63 && QueueName.IsMatch(name);

    /// <summary>The body as Azure Functions reads it.</summary>
    /// <exception cref="BadInputException">It is too large.</exception>
    public static string Encode(string body, string queue)
    {
        var bytes = Encoding.UTF8.GetBytes(body);
        if (bytes.Length > Largest)
            throw new BadInputException($"A message of {bytes.Length} bytes is too large for the queue '{queue}'; {Largest} fit.");
        return Convert.ToBase64String(bytes);
    }

    /// <summary>The body of a message, or null when it is not Base64.</summary>
    public static string? Decode(string text)
    {
        var bytes = new byte[text.Length];
        return Convert.TryFromBase64String(text, bytes, out var count) ? Encoding.UTF8.GetString(bytes, 0, count) : null;
    }

    /// <summary>A message that is set aside, with the reason; cut to what fits a message.</summary>
    public static string Wrap(string reason, long deliveries, string body)
    {
        if (reason.Length > LongestReason)
            reason = Start(reason, LongestReason) + "…";
        for (var kept = body.Length; ; )
        {
            var note = kept < body.Length ? $"the first {kept} of {body.Length} characters; the rest did not fit" : null;
            var text = JsonSerializer.Serialize(
                new
                {
                    reason,
                    deliveries,
                    message = Start(body, kept),
                    note,
                },
                Json.Options
            );
            var bytes = Encoding.UTF8.GetByteCount(text);
            if (bytes <= Largest)
                return text;
            // Escaping makes at most 6 bytes of a character; the first guess is by the share that fits.
            kept = Math.Max(0, Math.Min(kept - 64, (int)((long)kept * Largest / bytes) - 64));
        }
    }

    private static string Start(string text, int length) =>
        length >= text.Length ? text : text[..(length > 0 && char.IsHighSurrogate(text[length - 1]) ? length - 1 : length)];
}
