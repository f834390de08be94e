using System.Runtime.InteropServices;
using SkiaSharp;

namespace Serverless.TestSupport;

/// <summary>
/// Lines of text rendered as a document scanner sees them: several fonts, sizes, slants, shades and noise. Lines of one
/// seed never occur under another. Pictures are for PP-OCR: channels first, (pixel / 255 − 0.5) / 0.5.
/// </summary>
internal static class TextLines
{
    private const int Height = 48;
    private static readonly string[] FontFolders = ["/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts"];
    private const string Letters = "eeeetttaaaoooiiinnnssshhhrrrdddlllcccuuummmwwffggyyppbbvkjxqz";

    /// <summary>Font files to be had here; none means that nothing can be rendered.</summary>
    public static IReadOnlyList<string> Fonts { get; } =
    [
        .. FontFolders
            .Where(Directory.Exists)
            .SelectMany(f => Directory.EnumerateFiles(f, "*.ttf", SearchOption.AllDirectories))
            .Where(f =>
                new[] { "Sans", "Serif", "Mono", "Arial", "Times" }.Any(n => Path.GetFileName(f).Contains(n, StringComparison.Ordinal))
            )
            .Order(StringComparer.Ordinal)
            .Take(12),
    ];

    /// <summary>Text of line <paramref name="index"/> of a seed.</summary>
    public static string Text(int seed, int index, int longest = 28)
    {
        var random = new Random(seed * 100_003 + index);
        var text = "";
        while (text.Length < 6)
        {
            text = "";
            for (var words = 1 + random.Next(4); words > 0; words--)
            {
                var word =
                    random.Next(5) == 0
                        ? random.Next(100_000).ToString(System.Globalization.CultureInfo.InvariantCulture)
                        : string.Concat(Enumerable.Range(0, 2 + random.Next(8)).Select(_ => Letters[random.Next(Letters.Length)]));
                if (random.Next(4) == 0)
                    word = char.ToUpperInvariant(word[0]) + word[1..];
                text += (text.Length > 0 ? " " : "") + word;
            }
        }
        return text[..Math.Min(longest, text.Length)].Trim();
    }

    /// <summary>As much of the text as is legible in a crop of a width.</summary>
    public static string Shown(int seed, int index, int width = 320) => Text(seed, index, Math.Min(28, width / 14));

    /// <summary>The picture of a line: 3 × 48 × width.</summary>
    public static float[] Draw(int seed, int index, int width = 320)
    {
        var random = new Random(seed * 100_003 + index + 50_000);
        using var bitmap = new SKBitmap(new SKImageInfo(width, Height, SKColorType.Gray8));
        using var canvas = new SKCanvas(bitmap);
        var (paper, ink) = ((byte)(190 + random.Next(66)), (byte)random.Next(90));
        canvas.Clear(new SKColor(paper, paper, paper));
        using var face = SKTypeface.FromFile(Fonts[random.Next(Fonts.Count)]);
        using var font = new SKFont(face, 22 + random.Next(14)) { Edging = SKFontEdging.Antialias };
        using var paint = new SKPaint { Color = new SKColor(ink, ink, ink), IsAntialias = true };
        var text = Shown(seed, index, width);
        while (font.MeasureText(text) > width - 12 && font.Size > 10)
            font.Size -= 1;
        canvas.RotateDegrees((float)(random.NextDouble() - 0.5) * 2, width / 2, Height / 2);
        canvas.DrawText(text, 4 + random.Next(6), 34 + random.Next(4), font, paint);
        canvas.Flush();
        var pixels = bitmap.GetPixelSpan();
        var picture = new float[3 * Height * width];
        var noise = random.NextDouble() * 12;
        for (var y = 0; y < Height; y++)
        for (var x = 0; x < width; x++)
        {
            var shade = Math.Clamp(pixels[y * bitmap.RowBytes + x] + noise * (random.NextDouble() - 0.5), 0, 255);
            for (var c = 0; c < 3; c++)
                picture[(c * Height + y) * width + x] = (float)((shade / 255 - 0.5) / 0.5);
        }
        return picture;
    }

    // Lines one below another.
    private static float[] Page(int seed, int index, int width, int height)
    {
        var lines = Enumerable.Range(0, height / Height).Select(l => Draw(seed, index * (height / Height) + l, width)).ToList();
        return [.. Enumerable.Range(0, 3).SelectMany(c => lines.SelectMany(l => l.Skip(c * Height * width).Take(Height * width)))];
    }

    /// <summary>Writes lines as the data of a drop.</summary>
    /// <param name="path">The npz.</param>
    /// <param name="input">Name of the model's input.</param>
    /// <param name="seed">Of the texts.</param>
    /// <param name="count">Pictures.</param>
    /// <param name="width">Of a picture, in pixels.</param>
    /// <param name="height">Of a picture: one line every 48 pixels.</param>
    /// <param name="turned">Every other picture stands on its head.</param>
    public static string WriteNpz(string path, string input, int seed, int count, int width = 320, int height = Height, bool turned = false)
    {
        var bytes = Enumerable.Range(0, count).SelectMany(i => MemoryMarshal.AsBytes<float>(Picture(i)).ToArray()).ToArray();
        Npz.Write(path, (input, "<f4", [count, 3, height, width], bytes));
        return path;

        float[] Picture(int index)
        {
            var page = Page(seed, index, width, height);
            if (turned && index % 2 == 1)
                for (var c = 0; c < 3; c++)
                    Array.Reverse(page, c * height * width, height * width);
            return page;
        }
    }
}
