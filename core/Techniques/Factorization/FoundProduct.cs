using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Factors in the place of a weight, the one that the input meets first.</summary>
/// <param name="Factors">The factors.</param>
/// <param name="Lost">Squared norm of what their product lacks of the weight.</param>
/// <param name="Share">Share of the energy that the ranks were chosen by.</param>
internal sealed record FoundProduct(IReadOnlyList<FoundFactor> Factors, double Lost, double Share)
{
    /// <summary>Channels that the first factor makes.</summary>
    public int Rank { get; init; }

    /// <inheritdoc cref="EncodedLayer.OutputError"/>
    public double? OutputError { get; init; }

    /// <summary>Weights of all factors.</summary>
    public long Weights => Factors.Sum(f => f.Place.Elements);
}

/// <summary>Ways of putting a product in the place of a weight.</summary>
internal interface IApproximation
{
    /// <summary>The nearest product of two factors.</summary>
    /// <param name="split">The matrix that is approximated.</param>
    /// <param name="most">The largest rank.</param>
    /// <param name="energy">Share of the energy from which on a smaller rank is taken.</param>
    /// <param name="cancellation">Cancels the work.</param>
    FoundProduct Split(KernelSplit split, int most, double energy, CancellationToken cancellation);

    /// <summary>The nearest Tucker decomposition; null where no ranks are allowed.</summary>
    /// <param name="ranks">The ranks that are allowed.</param>
    /// <param name="energy">Share of the energy that is enough.</param>
    /// <param name="cancellation">Cancels the work.</param>
    FoundProduct? Tucker(TuckerRanks ranks, double energy, CancellationToken cancellation);

    /// <summary>Why the method asked for was not used, or null.</summary>
    string? Fallback => null;
}
