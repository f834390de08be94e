using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.TestSupport;

/// <summary>Changes to what lies around the graph: versions, operator sets, functions, metadata.</summary>
internal static class ModelMutations
{
    public static readonly MutationRecipe[] All =
    [
        new(
            "opset",
            (m, r) =>
                m.OpsetImport.Count == 0
                    ? null
                    : $"{r.Of(m.OpsetImport).Version = r.Of<long>([1, 5, 7, 9, 10, 11, 12, 13, 14, 17, 18, 19, 21, 23, 40, 0, -1, long.MaxValue])}"
        ),
        new(
            "opset-imports",
            (m, r) =>
            {
                if (r.Next(3) == 0)
                    m.OpsetImport.Clear();
                else
                    m.OpsetImport.Add(
                        new OperatorSetIdProto { Domain = r.Of(["", "ai.onnx", "com.microsoft", "none"]), Version = r.Next(30) }
                    );
                return $"{m.OpsetImport.Count}";
            }
        ),
        new("ir-version", (m, r) => $"{m.IrVersion = r.Of<long>([0, 1, 3, 4, 7, 8, 9, 10, 11, 12, 13, 99, -1])}"),
        new("function", (m, r) => Function(m, r)),
        new("function-named-as-an-operator", (m, r) => Override(m, r)),
        new(
            "metadata",
            (m, r) =>
            {
                m.MetadataProps.Add(new StringStringEntryProto { Key = "k\n\u0007", Value = new string('v', r.Next(5000)) });
                m.ProducerName = "\u001b[2J";
                return "control characters";
            }
        ),
        new(
            "training-info",
            (m, _) =>
            {
                m.TrainingInfo.Add(new TrainingInfoProto { Algorithm = m.Graph.Clone() });
                return "the graph as algorithm";
            }
        ),
        new(
            "graph-missing",
            (m, r) =>
            {
                if (r.Next(4) > 0)
                    return null;
                if (r.Next(2) == 0)
                    m.Graph = null;
                else
                    m.Graph.Node.Clear();
                return m.Graph is null ? "no graph" : "no nodes";
            }
        ),
    ];

    // A node becomes a call of a function that holds it; one in four of them calls itself.
    private static string? Function(ModelProto model, Random random)
    {
        var nodes =
            model
                .Graph?.Node.Where(n =>
                    n.Attribute.All(a => a.G is null)
                    && n.Input.All(i => i.Length > 0)
                    && n.Output.Count > 0
                    && n.Output.All(o => o.Length > 0)
                )
                .ToList()
            ?? [];
        if (nodes.Count == 0)
            return null;
        var node = random.Of(nodes);
        var inner = node.Clone();
        var function = new FunctionProto { Name = "Wrapped", Domain = "local" };
        for (var i = 0; i < inner.Input.Count; i++)
            function.Input.Add(inner.Input[i] = $"i{i}");
        for (var i = 0; i < inner.Output.Count; i++)
            function.Output.Add(inner.Output[i] = $"o{i}");
        if (random.Next(4) == 0)
            (inner.OpType, inner.Domain) = ("Wrapped", "local");
        function.Node.Add(inner);
        function.OpsetImport.AddRange(model.OpsetImport);
        function.OpsetImport.Add(new OperatorSetIdProto { Domain = "local", Version = 1 });
        model.Functions.Add(function);
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "local", Version = 1 });
        model.IrVersion = Math.Max(model.IrVersion, 8);
        (node.OpType, node.Domain) = ("Wrapped", "local");
        node.Attribute.Clear();
        return $"around {inner.OpType} '{node.Output[0]}'";
    }

    private static string? Override(ModelProto model, Random random)
    {
        var operators = model.Graph?.Node.Select(n => n.OpType).Distinct().ToList() ?? [];
        if (operators.Count == 0)
            return null;
        var function = new FunctionProto
        {
            Name = random.Of(operators),
            Domain = random.Of(["", "ai.onnx", "com.microsoft"]),
            Input = { "x", "y" },
            Output = { "z" },
        };
        function.Node.Add(ModelEdit.Node("Identity", ["x"], ["z"]));
        function.OpsetImport.AddRange(model.OpsetImport);
        model.Functions.Add(function);
        model.IrVersion = Math.Max(model.IrVersion, 8);
        return function.Name;
    }
}
