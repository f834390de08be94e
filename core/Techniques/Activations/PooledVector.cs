using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Values that are one vector a sample, behind a global pool, as in the gates of squeeze-and-excitation (Hu et al. 2018).
/// </summary>
internal static class PooledVector
{
    private const int MostSteps = 8;

    /// <summary>Whether a value follows a global pool through convolutions and functions alone, at most eight of them.</summary>
    /// <param name="index">Producers and consumers of the value's scope.</param>
    /// <param name="value">The value.</param>
    public static bool Is(GraphIndex index, string value)
    {
        for (var steps = 0; steps < MostSteps; steps++)
        {
            if (index.Producer(value) is not { } producer)
                return false;
            if (OperatorKinds.IsGlobalPool(producer))
                return true;
            if (producer.Input.Count == 0 || producer.Operator() != "Conv" && !OperatorKinds.IsFunction(producer))
                return false;
            value = producer.Input[0];
        }
        return false;
    }
}
