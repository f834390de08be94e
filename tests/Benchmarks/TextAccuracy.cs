using Microsoft.ML.OnnxRuntime;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// How much of the text of rendered lines a PP-OCR recogniser reads: 1 − edit distance / length, best path CTC decoding (Graves et al.
/// 2006), case ignored.
/// </summary>
/// <param name="keys">The file of characters beside the model: one a line, the blank before the first, a space after the last.</param>
internal sealed class TextAccuracy(string keys)
{
    private readonly string[] characters = ["", .. File.ReadAllLines(keys), " "];

    /// <summary>Reads lines of a seed.</summary>
    /// <param name="model">The recogniser.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="indices">The lines.</param>
    public double Of(string model, int seed, IEnumerable<int> indices)
    {
        using var session = new InferenceSession(model);
        using var run = new RunOptions();
        var (distance, length) = (0, 0);
        foreach (var i in indices)
        {
            using var input = OrtValue.CreateTensorValueFromMemory(TextLines.Draw(seed, i), [1, 3, 48, 320]);
            using var output = session.Run(run, session.InputNames, [input], session.OutputNames);
            var expected = TextLines.Shown(seed, i).ToUpperInvariant();
            distance += Distance(
                expected,
                Decode(output[0].GetTensorDataAsSpan<float>(), (int)output[0].GetTensorTypeAndShape().Shape[2]).ToUpperInvariant()
            );
            length += expected.Length;
        }
        return 1 - (double)distance / length;
    }

    private string Decode(ReadOnlySpan<float> scores, int classes)
    {
        var (text, last) = ("", 0);
        for (var t = 0; t < scores.Length / classes; t++)
        {
            var best = System.Numerics.Tensors.TensorPrimitives.IndexOfMax(scores.Slice(t * classes, classes));
            if (best != last && best > 0 && best < characters.Length)
                text += characters[best];
            last = best;
        }
        return text.Trim();
    }

    private static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0]++;
            for (var j = 1; j <= b.Length; j++)
                (diagonal, row[j]) = (row[j], Math.Min(Math.Min(row[j], row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)));
        }
        return row[^1];
    }
}
