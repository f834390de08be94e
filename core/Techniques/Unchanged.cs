using Serverless.Core.Forms;
using Serverless.Core.Model;

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
        new(FormName.Dense, DataTypes.Bits(weight.Reference.DataType), 1, weight.Reference.Length, 3L * WeightReader.Whole);

    /// <inheritdoc/>
    protected override Task<EncodedLayer> CompressAsync(
        LayerWork work,
        UnchangedOptions options,
        Stream shard,
        CancellationToken cancellation
    ) => MaskedCopy.WriteAsync(work, (_, _) => { }, shard, cancellation);
}
