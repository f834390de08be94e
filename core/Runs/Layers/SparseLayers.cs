using Serverless.Core.Forms;

namespace Serverless.Core.Runs;

/// <summary>Bytes of layers of whose chain a step sets weights to zero: those of a sparse form where that is smaller.</summary>
internal static class SparseLayers
{
    /// <summary>Bytes as planned, graph nodes included.</summary>
    /// <param name="chain">The steps; at least one.</param>
    /// <param name="task">The layer.</param>
    public static long Planned(IEnumerable<PlannedStep> chain, LayerTask task)
    {
        var plans = chain.Select(p => p.Plan).ToList();
        var last = plans[^1];
        return
            plans.Min(p => p.Density) is { } density
            && SparseBytes.Estimate(task.Shape.Elements, density, last.Bits, task.Store) is { } sparse
            ? Math.Min(last.BytesAfter, sparse + last.NodeBytes)
            : last.BytesAfter;
    }

    /// <summary>Bytes of what was made, without nodes.</summary>
    /// <param name="task">The layer: where its chain is the last, it is in the form that it is stored in.</param>
    /// <param name="chain">The steps.</param>
    /// <param name="layer">What they made.</param>
    public static long Made(LayerTask task, IEnumerable<PlannedStep> chain, EncodedLayer layer)
    {
        if (task.StoredOpset is not null || chain.All(p => p.Plan.Density is null) || layer.Rank > 0)
            return layer.Bytes;
        var elements = layer.Shape.Elements;
        var sparse = SparseBytes.Estimate(elements, (double)layer.Nonzero / elements, layer.Grid.BitsPerWeight, task.Store);
        return Math.Min(layer.Bytes, sparse ?? layer.Bytes);
    }
}
