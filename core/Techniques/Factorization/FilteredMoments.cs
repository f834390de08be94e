using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// Moments of the inputs behind some filters: G[(j, i), (j', i')] = Σ d[j, k] · H[(i, k), (i', k')] · d[j', k'], a combination of the
/// blocks of H for two elements of the kernel.
/// </summary>
internal sealed class FilteredMoments
{
    private readonly int inputs,
        pixels,
        terms,
        outputs;
    private readonly double[] blocks;

    /// <summary>Puts the moments into blocks.</summary>
    /// <param name="moments">H, of inputs × kernel.</param>
    /// <param name="plan">The sum that the filters are of.</param>
    public FilteredMoments(double[] moments, SeparationPlan plan)
    {
        (inputs, pixels, terms) = ((int)plan.Layout.Inputs, (int)plan.Layout.Pixels, plan.Terms);
        (outputs, blocks) = ((int)plan.Layout.Outputs, new double[moments.Length]);
        var n = inputs * pixels;
        for (var i = 0; i < inputs; i++)
        for (var k = 0; k < pixels; k++)
        {
            var row = moments.AsSpan((i * pixels + k) * n, n);
            for (var at = 0; at < n; at++)
                blocks[((k * pixels + at % pixels) * inputs + i) * inputs + at / pixels] = row[at];
        }
    }

    /// <summary>The moments behind the filters of an output.</summary>
    /// <param name="filters">Terms × kernel.</param>
    /// <returns>(terms · inputs)².</returns>
    public double[] Of(double[] filters)
    {
        var (pairs, square, width) = (terms * terms, inputs * inputs, terms * inputs);
        var factors = new double[pairs * pixels * pixels];
        for (var pair = 0; pair < pairs; pair++)
        for (var k = 0; k < pixels * pixels; k++)
            factors[pair * pixels * pixels + k] = filters[pair / terms * pixels + k / pixels] * filters[pair % terms * pixels + k % pixels];
        var combined = new double[pairs * square];
        MatrixProduct.Multiply(1, factors, false, blocks, false, null, combined, pairs, pixels * pixels, square);
        if (terms == 1)
            return combined;
        var moments = new double[combined.Length];
        for (var pair = 0; pair < pairs; pair++)
        for (var i = 0; i < inputs; i++)
            combined
                .AsSpan((pair * inputs + i) * inputs, inputs)
                .CopyTo(moments.AsSpan((pair / terms * inputs + i) * width + pair % terms * inputs));
        return moments;
    }

    /// <summary>What the layer's outputs and the filtered inputs have in common: terms × inputs.</summary>
    /// <param name="seen">H·W, inputs × kernel × outputs.</param>
    /// <param name="filters">Terms × kernel.</param>
    /// <param name="output">The output.</param>
    public double[] Right(double[] seen, double[] filters, int output)
    {
        var right = new double[terms * inputs];
        for (var j = 0; j < terms; j++)
        for (var i = 0; i < inputs; i++)
        for (var k = 0; k < pixels; k++)
            right[j * inputs + i] += filters[j * pixels + k] * seen[(i * pixels + k) * outputs + output];
        return right;
    }
}
