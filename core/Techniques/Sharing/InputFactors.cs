using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>The factored second moments of a layer's input, of each group of channels.</summary>
/// <param name="input">The input's statistics, with Gram matrices.</param>
/// <param name="options">Damping and order.</param>
internal sealed class InputFactors(InputStatistics input, ProductOptions options)
{
    private const int MostDampings = 4;
    private Hessian? only;

    /// <summary>Groups of channels.</summary>
    public int Groups => input.GramGroups;

    /// <summary>Those of a group. Of inputs that were never active nothing is known: each counts the same.</summary>
    public async Task<Hessian> OfAsync(int group, CancellationToken cancellation)
    {
        if (only is not null)
            return only;
        var gram = await input.ReadGramAsync!(group, cancellation);
        var damping = Math.Max(options.Damping, Hessian.Shrinkage(gram, input.GramRows));
        var factors =
            Hessian.Of(gram, options.Order, damping, MostDampings, cancellation, options.Dimension) ?? Hessian.Unknown(gram, cancellation);
        if (Groups == 1)
            only = factors;
        return factors;
    }

    /// <summary>
    /// What an error that those behind it make up for counts by: M[i, i]² of H = M·Mᵀ, the part of an input that the inputs behind it do not
    /// follow. Mean 1.
    /// </summary>
    public async Task<double[][]> MassesAsync(CancellationToken cancellation)
    {
        var masses = new double[Groups][];
        for (var g = 0; g < Groups; g++)
        {
            var factors = await OfAsync(g, cancellation);
            var squares = new double[factors.Order.Length];
            for (var i = 0; i < squares.Length; i++)
                squares[factors.Order[i]] = Math.Pow(factors.Factor.Diagonal(i), 2);
            masses[g] = ErrorWeights.Damped(squares);
        }
        return masses;
    }
}
