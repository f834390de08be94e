using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Runs;

/// <summary>Compressed layers, to be put into a model.</summary>
internal static class StoredLayers
{
    /// <summary>Puts layers into a model, each in its form.</summary>
    /// <param name="model">The model; changed.</param>
    /// <param name="layers">Names of the weights and what was made of them.</param>
    public static void Put(ModelProto model, IReadOnlyList<(string Name, StoredLayer Stored)> layers)
    {
        var (edit, weights) = (new ModelEdit(model), Weight.Of(model).ToDictionary(w => w.Name, StringComparer.Ordinal));
        Form.Prepare(edit, layers.Select(l => l.Stored.Layer));
        using (edit.Batch(weights.Values.Select(w => ModelEdit.Outermost(w.Scope)).Distinct()))
            foreach (var (name, stored) in layers)
                Form.Apply(edit, weights[name], stored.Layer, stored.Shard);
    }
}
