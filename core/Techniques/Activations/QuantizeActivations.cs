using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Activations;

/// <summary>Options of a step that takes everything from the plans of the layers before it.</summary>
public sealed record NoOptions;

/// <summary>
/// uint8 activations with observed ranges around layers whose weights are int8, in the QDQ format that ONNX Runtime makes integer kernels
/// of (Jacob et al. 2018, section 3). Takes the layers whose plan says how their activations are rounded.
/// </summary>
public sealed class QuantizeActivations : GraphTechnique<NoOptions>
{
    /// <inheritdoc/>
    public override string Step => "activations";

    /// <inheritdoc/>
    public override string Method => "static";

    /// <inheritdoc/>
    public override string About => "Activations rounded to 8 bits in observed ranges (Jacob et al. 2018).";

    /// <inheritdoc/>
    public override bool InRecipes => false;

    /// <inheritdoc/>
    public override StepOrder Order => StepOrder.Last;

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, NoOptions options) =>
        new(
            [
                .. layers
                    .Where(l => l.Plan.Activation is not null)
                    .SelectMany(l => Values(l.Weight))
                    .Distinct()
                    .Select(v => new InputView(v, 0, null)),
            ],
            StatisticKinds.Range | StatisticKinds.Histogram,
            0
        );

    /// <inheritdoc/>
    protected override async Task<Lowering?> LowerAsync(LoweringWork work, NoOptions options, CancellationToken cancellation)
    {
        var rounded = work
            .Weights.Select(w => (Weight: w, work.Coded.GetValueOrDefault(w.Name)?.Plan.Activation))
            .Where(w => w.Activation is not null)
            .Select(w => (w.Weight, w.Activation!))
            .ToList();
        if (rounded.Count == 0)
            return null;
        var scales = await ActivationScales.ReadAsync(work, ActivationScales.Roundings(rounded), cancellation);
        return new QdqGraph(work, v => scales.TryGetValue(v, out var s) ? s : null);
    }

    private static IEnumerable<string> Values(Weight weight) =>
        weight.Uses.SelectMany(u => new[] { u.Node.Input[0], QdqGraph.Output(u) }).Distinct();
}
