using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Lets the main graph compute in float16. Operators that only move, multiply and add numbers or bound them do; what sums many
/// of them, divides by small ones or raises to powers (Softmax, normalizations, reductions, Exp, Pow, …), what looks
/// positions up, and layers whose outputs were seen near float16's largest number, 65,504, stay in float32 behind casts. Inputs and
/// outputs of the model keep their types.
/// </summary>
/// <param name="edit">The edit.</param>
/// <param name="overflows">Whether a value comes near the largest float16.</param>
internal sealed class Float16Conversion(ModelEdit edit, Func<string, bool> overflows) : Lowering
{
    private static readonly HashSet<string> Halves =
    [
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "Add",
        "Sub",
        "Mul",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Sigmoid",
        "Tanh",
        "HardSigmoid",
        "HardSwish",
        "Clip",
        "Max",
        "Min",
        "Concat",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Split",
        "Gather",
        "Expand",
        "Identity",
        "MaxPool",
        "Pad",
        "Where",
        "Neg",
        "Abs",
    ];

    private readonly GraphScope main = edit.Roots[0];
    private readonly Dictionary<string, string> halves = new(StringComparer.Ordinal);
    private readonly HashSet<string> pending = new(StringComparer.Ordinal);

    /// <summary>Changes the graph.</summary>
    public override Task FinishAsync(CancellationToken cancellation)
    {
        var types = Types();
        var nodes = new List<NodeProto>();
        foreach (var node in GraphCheck.TopologicalOrder(main.Nodes)!.Select(i => main.Nodes[i]).ToList())
        {
            if (
                node is { OpType: "Cast", Domain: "" }
                && types.GetValueOrDefault(node.Input[0]) == DataType.Float16
                && types.GetValueOrDefault(node.Output[0]) == DataType.Float
            )
                halves[node.Output[0]] = node.Input[0];
            if (!IsHalf(node, types))
            {
                foreach (var value in node.Input.Concat(GraphScope.Captures(node)).Distinct().Where(pending.Remove).ToList())
                    nodes.Add(Cast(halves[value], value, DataType.Float));
                nodes.Add(node);
                continue;
            }
            for (var i = 0; i < node.Input.Count; i++)
                if (types.GetValueOrDefault(node.Input[i], TypeOf(node, i)) == DataType.Float)
                    node.Input[i] = Half(node.Input[i], nodes);
            for (var i = 0; i < node.Output.Count; i++)
            {
                if (types.GetValueOrDefault(node.Output[i]) != DataType.Float)
                    continue;
                pending.Add(node.Output[i]);
                node.Output[i] = halves[node.Output[i]] = edit.FreshName(node.Output[i] + "_h");
            }
            nodes.Add(node);
        }
        foreach (var o in main.Graph!.Output.Where(o => pending.Remove(o.Name)))
            nodes.Add(Cast(halves[o.Name], o.Name, DataType.Float));
        main.Nodes.Clear();
        main.Nodes.AddRange(nodes);
        for (var i = main.Graph.ValueInfo.Count - 1; i >= 0; i--)
            if (pending.Contains(main.Graph.ValueInfo[i].Name))
                main.Graph.ValueInfo.RemoveAt(i);
        new ModelEdit(edit.Model).DropDead(cancellation);
        return Task.CompletedTask;
    }

    private bool IsHalf(NodeProto node, Dictionary<string, DataType> types) =>
        node.Domain.Length == 0
        && Halves.Contains(node.OpType)
        && types.GetValueOrDefault(node.Output[0]) == DataType.Float
        && !node.Output.Any(overflows);

    // What is not known, such as what an If or a function makes, has the type of the output where the operator wants one type of both.
    private static DataType TypeOf(NodeProto node, int input) =>
        (node.OpType, input) switch
        {
            _ when node.Input[input].Length == 0 => DataType.Undefined,
            ("Where", 1 or 2) or ("Pad", 0 or 2) => DataType.Float,
            ("Where" or "Pad", _) => DataType.Undefined,
            (_, > 0) when OperatorFacts.Of(node) is { Effect: ChannelEffect.Layout, Data: 1 } => DataType.Undefined,
            _ => DataType.Float,
        };

    private string Half(string value, List<NodeProto> nodes)
    {
        if (halves.TryGetValue(value, out var half))
            return half;
        halves[value] = half = edit.FreshName(value + "_h");
        nodes.Add(Cast(value, half, DataType.Float16));
        return half;
    }

    private static NodeProto Cast(string from, string to, DataType type) =>
        ModelEdit.Node("Cast", [from], [to], ModelEdit.Attribute("to", (long)type));

    // Element types as far as they can be told: by the operators, else as they are declared. Others stay as they are.
    private Dictionary<string, DataType> Types()
    {
        var (facts, types) = (new GraphFacts(edit.Model).Main, new Dictionary<string, DataType>(StringComparer.Ordinal));
        foreach (var name in main.Nodes.SelectMany(n => n.Input.Concat(n.Output)).Where(n => n.Length > 0).Distinct())
            if (facts.Type(name) is not DataType.Undefined and var type)
                types[name] = type;
        foreach (var v in main.Graph!.Input.Concat(main.Graph.ValueInfo).Concat(main.Graph.Output))
            if (v.Type?.TensorType is { ElemType: > 0 } tensor)
                types.TryAdd(v.Name, (DataType)tensor.ElemType);
        return types;
    }
}
