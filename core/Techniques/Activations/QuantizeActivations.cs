using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// uint8 activations with observed ranges around layers whose weights are int8, in the QDQ format that ONNX Runtime makes integer kernels
/// of (Jacob et al. 2018, section 3). Takes the layers whose plan says how their activations are rounded.
/// </summary>
public sealed class QuantizeActivations : ActivationTechnique
{
    /// <inheritdoc/>
    public override string Method => "static";

    /// <inheritdoc/>
    public override string About => "Activations rounded to 8 bits in observed ranges (Jacob et al. 2018).";

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, NoOptions options) =>
        Distributions(layers.Where(l => l.Plan.Activation is not null).SelectMany(l => Values(l.Weight)));

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

    private static IEnumerable<string> Values(Weight weight) => weight.Uses.SelectMany(u => new[] { u.Node.Input[0], QdqGraph.Output(u) });
}
