using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Activations;

/// <summary>Operators around layers stored in float16 compute in float16 too (<see cref="Float16Conversion"/>).</summary>
public sealed class ComputeFloat16 : ActivationTechnique
{
    // Half of the largest: a sample that was not observed may be larger.
    private const float NearLargest = 32752;

    /// <inheritdoc/>
    public override string Method => "float16";

    /// <inheritdoc/>
    public override string About => "Operators compute in float16 where no value comes near its largest number.";

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, NoOptions options) =>
        Distributions(
            layers
                .Where(l => Computes(l.Setting) && l.Weight.Scope is { Parent: null, Function: null })
                .SelectMany(l => l.Weight.Uses.Where(u => u.Scope == l.Weight.Scope && IsProduct(u)))
                .SelectMany(u => new[] { u.Node.Input[0], u.Node.Output[0] })
        );

    /// <inheritdoc/>
    protected override async Task<Lowering?> LowerAsync(LoweringWork work, NoOptions options, CancellationToken cancellation)
    {
        if (!work.Coded.Values.Any(Computes))
            return null;
        var extremes = new ActivationRounding(RangeMethod.Minmax, 100);
        var scales = await ActivationScales.ReadAsync(work, _ => extremes, cancellation);
        // Layers that are not to compute so: skipped, or coded otherwise. Those too small to store so compute with the rest.
        var others = work
            .Weights.Where(w => !(work.Coded.TryGetValue(w.Name, out var l) && Computes(l)) && !work.TooSmall.Contains(w.Name))
            .SelectMany(w => w.Uses)
            .Where(IsProduct)
            .SelectMany(u => u.Node.Output)
            .ToHashSet(StringComparer.Ordinal);
        return new Float16Conversion(
            work.Edit,
            v => others.Contains(v) || scales.TryGetValue(v, out var s) && s.Scale.Scale * byte.MaxValue > NearLargest
        );
    }

    private static bool IsProduct(WeightUse use) => use.Op is "Conv" or "ConvTranspose" or "MatMul" or "Gemm";

    private static bool Computes(Setting setting) => setting.Options is HalfPrecisionOptions { Compute: true };

    private static bool Computes(CodedLayer layer) =>
        Computes(layer.Setting) && layer.Layer.Grid is FloatGrid { DataType: (int)TensorProto.Types.DataType.Float16 };
}
