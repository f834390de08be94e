using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>Elements of a model's weights, and multiply-accumulates with them.</summary>
internal sealed class WeightSizes
{
    private readonly Dictionary<string, (long Parameters, long Macs)> byConstant = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> held = new(StringComparer.Ordinal);
    private readonly Dictionary<NodeProto, (long Parameters, long Macs)> byNode = new(ReferenceEqualityComparer.Instance);

    /// <summary>Counts.</summary>
    /// <param name="model">The model.</param>
    /// <param name="macs">Multiply-accumulates by weight; null for none.</param>
    /// <param name="whySkipped">Why a weight is to stay as it is; null where it is not.</param>
    public WeightSizes(ModelProto model, IReadOnlyDictionary<string, long>? macs, Func<Weight, string?>? whySkipped = null)
    {
        foreach (var weight in Weight.Of(model))
        {
            if (whySkipped?.Invoke(weight) is { } why)
                held[weight.Value] = $"it holds '{weight.Name}', {why}";
            var size = (weight.Reference.Elements, macs?.GetValueOrDefault(weight.Name) ?? 0);
            (Parameters, Macs) = (Parameters + size.Elements, MultiplyAccumulates.Total([Macs, size.Item2]));
            if (weight.Constant is { } node)
                byNode[node] = size;
            else
                byConstant[weight.Value] = size;
        }
    }

    /// <summary>Weights of the model.</summary>
    public long Parameters { get; }

    /// <summary>Multiply-accumulates with them.</summary>
    public long Macs { get; }

    /// <summary>A block with its size.</summary>
    public RankedBlock Of(GraphBlock block)
    {
        var sizes = block
            .Constants.Select(c => byConstant.GetValueOrDefault(c))
            .Concat(block.Nodes.Select(n => byNode.GetValueOrDefault(n)))
            .ToList();
        var parts = block.Constants.Concat(block.Nodes.SelectMany(n => n.Output));
        return new RankedBlock(block, sizes.Sum(s => s.Parameters), MultiplyAccumulates.Total(sizes.Select(s => s.Macs)))
        {
            Held = parts.Select(p => held.GetValueOrDefault(p)).FirstOrDefault(h => h is not null),
        };
    }
}
