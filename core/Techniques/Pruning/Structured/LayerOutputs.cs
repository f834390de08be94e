namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>Rows of what a layer makes, sample by sample: those that <see cref="LayerMoments"/> takes of its input.</summary>
/// <param name="layer">The layer.</param>
internal sealed class LayerOutputs(LinearLayer layer)
{
    private readonly List<float[]> samples = [];

    /// <summary>The rows of a sample, one after another.</summary>
    public float[] this[int sample] => sample < samples.Count ? samples[sample] : [];

    /// <summary>Adds a sample.</summary>
    /// <param name="values">The tensor.</param>
    /// <param name="shape">Its dimensions.</param>
    /// <param name="most">Rows at most.</param>
    public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape, int most)
    {
        var width = layer.Rows;
        if (layer.IsConvolution ? shape.Length < 3 || shape[1] != width : shape.Length == 0 || shape[^1] != width)
        {
            samples.Add([]);
            return;
        }
        var total = values.Length / width;
        var pixels = layer.IsConvolution ? total / (int)Math.Max(1, shape[0]) : 1;
        var rows = new float[Math.Min(most, total) * width];
        for (var i = 0; i < rows.Length / width; i++)
        {
            // The same places as InputRows takes.
            var at = (int)((long)i * total / (rows.Length / width));
            if (!layer.IsConvolution)
                values.Slice(at * width, width).CopyTo(rows.AsSpan(i * width));
            else
                for (var c = 0; c < width; c++)
                    rows[i * width + c] = values[(at / pixels * width + c) * pixels + at % pixels];
        }
        samples.Add(Array.TrueForAll(rows, float.IsFinite) ? rows : []);
    }
}
