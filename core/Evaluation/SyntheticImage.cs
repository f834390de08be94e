namespace Serverless.Core.Evaluation;

/// <summary>
/// Made-up pictures: a plain background with lines of glyph-like strokes and faint noise, values in −1…1. Networks that
/// look for edges and objects answer to these; on white noise most of their outputs are empty and compare as noise.
/// </summary>
internal static class SyntheticImage
{
    /// <summary>One picture, channels first.</summary>
    public static float[] Draw(Random random, int channels, int height, int width)
    {
        var picture = new float[channels * height * width];
        var (paper, ink) = (0.6 + 0.4 * random.NextDouble(), -1 + 0.6 * random.NextDouble());
        var tint = Enumerable.Range(0, channels).Select(_ => 0.2 * (random.NextDouble() - 0.5)).ToArray();
        for (var c = 0; c < channels; c++)
            picture.AsSpan(c * height * width, height * width).Fill((float)(paper + tint[c]));
        // A low picture is one line of text; a tall one has several.
        var tall = Math.Clamp(height < 64 ? (int)(0.7 * height) : height / 8 + random.Next(height / 16 + 1), 2, 48);
        for (var top = (height < 64 ? height - tall : tall) / 2; top + tall <= height; top += tall + tall / 2 + random.Next(tall + 1))
        {
            var left = random.Next(Math.Max(1, width / 8));
            var right = width - random.Next(Math.Max(1, width / 4));
            for (var x = left; x + tall / 2 <= right; x += tall / 2 + Math.Max(1, tall / 8))
                if (random.Next(7) > 0)
                    Glyph(x, top, tall / 2, tall);
        }
        for (var i = 0; i < picture.Length; i++)
            picture[i] = Math.Clamp(picture[i] + (float)(0.04 * (random.NextDouble() - 0.5)), -1f, 1f);
        return picture;

        void Glyph(int x, int y, int w, int h)
        {
            var pen = Math.Max(1, h / 8);
            for (var stroke = 2 + random.Next(3); stroke > 0; stroke--)
            {
                if (random.Next(2) == 0)
                    Fill(x + random.Next(Math.Max(1, w - pen)), y, pen, h);
                else
                    Fill(x, y + random.Next(Math.Max(1, h - pen)), w, pen);
            }
        }

        void Fill(int x, int y, int w, int h)
        {
            for (var c = 0; c < channels; c++)
            for (var row = y; row < Math.Min(height, y + h); row++)
            for (var column = x; column < Math.Min(width, x + w); column++)
                picture[(c * height + row) * width + column] = (float)(ink + tint[c]);
        }
    }
}
