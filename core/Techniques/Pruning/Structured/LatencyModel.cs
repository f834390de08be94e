using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Predicts latencies. Products and convolutions take what a table of operators says. What the whole model takes beyond them is shared out
/// among the other nodes by the elements that they put out, and shrinks as these do.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="limits">Shapes in a run, and multiply-accumulates.</param>
/// <param name="times">The table.</param>
internal sealed class LatencyModel(PrunableModel model, ModelLimits limits, OperatorTimes times)
{
    // A processor makes about as many products as it moves sixteen times fewer elements.
    private const double MacsOfElement = 16;

    // They move nothing.
    private static readonly HashSet<string> Free = ["Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"];
    private readonly ChannelGroups axes = model.Facts.Groups;
    private readonly Func<string, IReadOnlyList<long>?> shapeOf = limits.ShapesAsOf(model.Model);

    /// <summary>Layers whose time the table tells.</summary>
    public int Layers { get; private set; }

    /// <summary>The cost of units; measures what the table lacks.</summary>
    /// <param name="groups">Groups that may shrink.</param>
    /// <param name="milliseconds">What the whole model takes; null where that is not known, and the table counts alone.</param>
    /// <param name="cancellation">Cancels measurements.</param>
    public LatencyCost Cost(IReadOnlyList<PrunableGroup> groups, double? milliseconds, CancellationToken cancellation)
    {
        var shrinking = groups.Select(g => g.Group).ToHashSet();
        var timed = new List<LatencyPart>();
        var known = new HashSet<object>(ReferenceEqualityComparer.Instance);
        var uncounted = new Dictionary<object, List<Weight>>(ReferenceEqualityComparer.Instance);
        foreach (var weight in Weight.Of(model.Model, model.Facts.Roots))
        foreach (var use in weight.Uses.Where(u => u.Scope is { Parent: null, Function: null }))
            if (PartOf(weight, use, shrinking, cancellation) is { } part)
            {
                timed.Add(part);
                known.Add(use.Node);
            }
            else if (uncounted.TryGetValue(use.Node, out var several))
                several.Add(weight);
            else
                uncounted[use.Node] = [weight];
        Layers = timed.Count;
        var macs = limits.CountAsOf(model.Model);
        var others = model
            .Model.Graph.Node.Where(n => !known.Contains(n))
            .Select(n => Other(n, uncounted.GetValueOrDefault(n, []), macs))
            .OfType<LatencyPart>()
            .ToList();
        var (told, share) = (timed.Sum(p => p.Cost(_ => 0)), others.Sum(p => p.Cost(_ => 0)));
        var rest = Math.Max(0, (milliseconds ?? told) - told);
        var unit = timed.Count == 0 ? 1 : rest / Math.Max(1, share);
        return new LatencyCost(timed.Concat(others.Select(p => p with { Cost = removed => unit * p.Cost(removed) })), groups);
    }

    private LatencyPart? PartOf(Weight weight, WeightUse use, HashSet<ChannelGroup> shrinking, CancellationToken cancellation)
    {
        if (weight.Type != (int)TensorProto.Types.DataType.Float || TimedLayer.Of(use, weight.Reference.Dims, shapeOf) is not { } layer)
            return null;
        var (outputs, place) = (axes.Of(weight.Tensor, layer.OutputAxis), model.PlaceOf(weight.Tensor));
        var inputs = layer.InputAxis is { } a ? axes.Of(weight.Tensor, a) : [];
        var table = ChannelTimes.Of(
            (layer.Outputs, outputs.Any(shrinking.Contains)),
            (layer.Inputs, inputs.Any(shrinking.Contains)),
            (o, i) => times.Milliseconds(layer.Call(o, i), cancellation)
        );
        return table is null
            ? null
            : new LatencyPart(
                removed =>
                    table.At(
                        model.Length(place, layer.OutputAxis, removed),
                        layer.InputAxis is { } axis ? model.Length(place, axis, removed) : layer.Inputs
                    ),
                outputs.Concat(inputs)
            );
    }

    // Elements put out, and the products of weights that are not in the table or of two activations.
    private LatencyPart? Other(NodeProto node, IReadOnlyList<Weight> weights, IReadOnlyDictionary<string, long> macs)
    {
        if (node.Output.Count == 0 || Free.Contains(node.OpType) || shapeOf(node.Output[0]) is not { } shape)
            return null;
        var output = AxesOf(node.Output[0], shape.Count);
        var elements = shape.Aggregate(1.0, (n, d) => n * d);
        var products = weights.Sum(w => (double)macs.GetValueOrDefault(w.Name)) / MacsOfElement;
        var reduced = new List<ValueAxis>();
        if (weights.Count == 0 && node.OpType is "MatMul" && shapeOf(node.Input[0]) is { Count: > 0 } left)
        {
            products = elements * left[^1] / MacsOfElement;
            reduced.Add(AxesOf(node.Input[0], left.Count)[^1]);
        }
        return new LatencyPart(
            removed => Share(output, removed) * (elements + products * Share(reduced, removed)),
            output.Concat(reduced).SelectMany(axes.Of)
        );
    }

    private double Share(IReadOnlyList<ValueAxis> of, Func<ChannelGroup, int> removed) =>
        of.Aggregate(1.0, (share, axis) => share * axes.Share(axis, removed));

    private List<ValueAxis> AxesOf(string value, int rank) =>
        [.. Enumerable.Range(0, rank).Select(a => new ValueAxis(model.Facts.Main.Scope, value, a))];
}
