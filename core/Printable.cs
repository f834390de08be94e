using System.Globalization;
using System.Text;

namespace Serverless.Core;

/// <summary>
/// Text for people, out of names that others chose. Whatever could drive a terminal, hide or reorder text is shown as
/// the escape that C# and JSON have for it (<c>\u001B</c>).
/// </summary>
public static class Printable
{
    /// <summary>
    /// One line: controls (C0, C1), format characters (bidirectional overrides, zero width), line separators, lone surrogates
    /// and unassigned characters are escaped.
    /// </summary>
    public static string Line(string text) => Escape(text, "");

    /// <summary>The same with line feeds and tabs kept.</summary>
    public static string Lines(string text) => Escape(text, "\n\t");

    /// <summary>One line, each character that <see cref="Line"/> would escape replaced.</summary>
    public static string Plain(string text, char instead)
    {
        if (IsPlain(text, ""))
            return text;
        var plain = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
            plain.Append(IsShown(rune) && rune != Rune.ReplacementChar ? rune.ToString() : instead);
        return plain.ToString();
    }

    /// <summary>The text in at most <paramref name="longest"/> characters, its middle left out; no character is cut in two.</summary>
    /// <param name="text">What <see cref="Line"/> gave.</param>
    /// <param name="longest">Characters, at least 2.</param>
    public static string Shorten(string text, int longest)
    {
        if (text.Length <= longest)
            return text;
        var (head, tail) = (longest / 2, text.Length - longest / 2);
        if (char.IsHighSurrogate(text[head - 1]))
            head--;
        if (char.IsLowSurrogate(text[tail]))
            tail++;
        return $"{text[..head]}…{text[tail..]}";
    }

    private static string Escape(string text, string kept)
    {
        if (IsPlain(text, kept))
            return text;
        var shown = new StringBuilder(text.Length + 16);
        for (var at = 0; at < text.Length; )
        {
            // A lone surrogate is one character that no rune stands for.
            if (Rune.DecodeFromUtf16(text.AsSpan(at), out var rune, out var used) != System.Buffers.OperationStatus.Done)
                shown.Append($"\\u{(int)text[at]:X4}");
            else if (!IsShown(rune) && !(rune.IsBmp && kept.Contains((char)rune.Value)))
                shown.Append(rune.IsBmp ? $"\\u{rune.Value:X4}" : $"\\U{rune.Value:X8}");
            else
                shown.Append(text, at, used);
            at += used;
        }
        return shown.ToString();
    }

    private static bool IsPlain(string text, string kept)
    {
        foreach (var c in text)
            if (c is < ' ' or > '~' && !kept.Contains(c))
                return false;
        return true;
    }

    private static bool IsShown(Rune rune) =>
        Rune.GetUnicodeCategory(rune) switch
        {
            UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate => false,
            UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator => false,
            UnicodeCategory.OtherNotAssigned or UnicodeCategory.PrivateUse => false,
            // Letters by their category, of no width: the fillers of Hangul, and the joiner of graphemes.
            _ => rune.Value is not (0x115F or 0x1160 or 0x3164 or 0xFFA0 or 0x034F),
        };
}
