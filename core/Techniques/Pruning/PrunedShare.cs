namespace Serverless.Core.Techniques.Pruning;

/// <summary>How many weights of each part of a layer become zero, so that the layer has its sparsity however small the parts are.</summary>
/// <param name="sparsity">The share.</param>
internal sealed class PrunedShare(double sparsity)
{
    private long seen,
        pruned;

    /// <summary>Weights of the next part that become zero at most: those that earlier parts left over included.</summary>
    /// <param name="weights">Weights of the part.</param>
    public long Of(long weights)
    {
        seen += weights;
        return Math.Clamp((long)(sparsity * seen) - pruned, 0, weights);
    }

    /// <summary>Takes down what became zero of it.</summary>
    public void Done(long weights) => pruned += weights;
}
