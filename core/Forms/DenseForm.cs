using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>The weight's own floats, some of them changed.</summary>
internal sealed class DenseForm : Form
{
    /// <inheritdoc/>
    public override string Name => FormName.Dense;

    /// <inheritdoc/>
    public override long OldestOpset => 1;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard)
    {
        TensorRef.Point(weight.Tensor, ModelWriter.InStore(shard), layer.Codes.Offset, layer.Codes.Length);
        return [weight.Value];
    }
}
