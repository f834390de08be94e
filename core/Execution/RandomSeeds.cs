using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>
/// Gives random operators seeds, so that two models draw the same numbers and can be compared (ONNX operators, attribute
/// <c>seed</c>). Operators are numbered in the order of the graph, which compressing keeps.
/// </summary>
internal static class RandomSeeds
{
    /// <summary>Whether the model has random operators, which draw on from one run of a session to the next.</summary>
    public static bool Draws(ModelProto model) => Random(model).Any();

    /// <summary>A copy of the model whose random operators have seeds; null for a model without any.</summary>
    public static ModelProto? Fix(ModelProto model)
    {
        if (!Draws(model))
            return null;
        // ONNX Runtime takes no external data of a function's constants, so such a model runs from its own file alone.
        if (model.Functions.SelectMany(f => f.Node).Any(ModelWriter.IsExternalConstant))
            return null;
        var seeded = model.Clone();
        ModelWriter.LiftConstants(seeded);
        var next = 1f;
        foreach (var node in Random(seeded))
        {
            var seed = node.Attribute.FirstOrDefault(a => a.Name == "seed");
            if (seed is null)
                node.Attribute.Add(ModelEdit.Attribute("seed", next));
            next++;
        }
        return seeded;
    }

    private static IEnumerable<NodeProto> Random(ModelProto model) =>
        GraphScope.Of(model).SelectMany(r => r.All()).SelectMany(s => s.Nodes).Where(OperatorKinds.IsRandom);
}
