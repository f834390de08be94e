namespace Serverless.Core.Techniques.Pruning;

/// <summary>
/// Sparsities of layers by the Erdős–Rényi kernel (Evci et al. 2020, "Rigging the Lottery: Making All Tickets Winners", section 3(1)): a
/// layer's density is in proportion to the sum of its dimensions over their product. Layers that would be denser than whole stay whole, and
/// the others make up for them.
/// </summary>
internal static class ErdosRenyiKernel
{
    /// <summary>The share of each layer that becomes zero.</summary>
    /// <param name="dims">Dimensions of each layer: inputs, outputs, kernel.</param>
    /// <param name="sparsity">That of all layers together.</param>
    public static double[] Sparsities(IReadOnlyList<IReadOnlyList<long>> dims, double sparsity)
    {
        var sums = dims.Select(d => (double)d.Sum()).ToArray();
        var elements = dims.Select(d => d.Aggregate(1.0, (a, b) => a * b)).ToArray();
        var whole = new bool[dims.Count];
        while (true)
        {
            var room = (1 - sparsity) * elements.Sum() - elements.Where((_, i) => whole[i]).Sum();
            var scale = room / sums.Where((_, i) => !whole[i]).Sum();
            var denser = Enumerable.Range(0, dims.Count).Where(i => !whole[i] && scale * sums[i] > elements[i]).ToList();
            if (denser.Count == 0)
                return [.. sums.Select((s, i) => whole[i] ? 0 : 1 - scale * s / elements[i])];
            foreach (var i in denser)
                whole[i] = true;
        }
    }
}
