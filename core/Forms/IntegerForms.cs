using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>
/// int8 codes with a scale a channel for integer kernels. The nodes around them depend on the rounding of activations, which the steps behind
/// place; a layer that they leave is decoded at load.
/// </summary>
internal abstract class IntegerForm : Form
{
    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard) =>
        Apply(edit, weight, layer with { Form = FormName.Folded }, shard);
}

/// <summary>Behind DequantizeLinear, between activations in uint8.</summary>
internal sealed class QdqForm : IntegerForm
{
    /// <inheritdoc/>
    public override string Name => FormName.Qdq;
}

/// <summary>For operators that round their input as it comes.</summary>
internal sealed class DynamicForm : IntegerForm
{
    /// <inheritdoc/>
    public override string Name => FormName.Dynamic;
}
