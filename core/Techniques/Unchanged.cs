using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques;

/// <summary>Options of <see cref="Unchanged"/>: none.</summary>
public sealed record UnchangedOptions;

/// <summary>Leaves a pruned weight as it is, so that it is stored in the form of fewest bytes where no step on layers follows.</summary>
public sealed class Unchanged : LayerTechnique<UnchangedOptions>
{
    /// <inheritdoc/>
    public override string Step => "unchanged";

    /// <inheritdoc/>
    public override string About => "The weight stays as it is.";

    /// <inheritdoc/>
    public override bool InRecipes => false;

    /// <inheritdoc/>
    public override bool LeavesDense => true;

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, UnchangedOptions options) =>
        new(FormName.Dense, DataTypes.Bits(weight.Reference.DataType), 1, weight.Reference.Length, WeightReader.Whole);

    /// <inheritdoc/>
    protected override async Task<EncodedLayer> CompressAsync(
        LayerWork work,
        UnchangedOptions options,
        Stream shard,
        CancellationToken cancellation
    )
    {
        var (type, nonzero) = (work.Weight.DataType, 0L);
        var width = DataTypes.Bits(type) / 8;
        var floats = new float[WeightReader.Whole / width];
        await work.Weight.ScanAsync(
            async (bytes, token) =>
            {
                var values = floats.AsSpan(0, bytes.Length / width);
                FloatConversion.ToFloat(bytes.Span, type, values);
                nonzero += values.Length - values.Count(0f);
                await shard.WriteAsync(bytes, token);
            },
            cancellation
        );
        return EncodedLayer.OfFloats(FormName.Dense, work.Shape, type, work.Weight.Elements * width, 0, nonzero);
    }
}
