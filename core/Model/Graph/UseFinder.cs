using System.Runtime.InteropServices;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Follows a value to the nodes that compute with it: through layout operators, into subgraphs and into functions.</summary>
internal sealed class UseFinder
{
    private const int MostLayouts = 16;

    // Splits and Concats that follow one another multiply the ways from a weight to its uses; ordinary models have a few for each.
    private const int MostWays = 1_000_000;
    private int ways;
    private readonly Dictionary<(GraphScope, string), List<(GraphScope Scope, NodeProto Node, int Input)>> uses = [];
    private readonly HashSet<(GraphScope, string)> outputs = [];
    private readonly Dictionary<(string, string), GraphScope> functions = [];

    public UseFinder(ModelProto model, IReadOnlyList<GraphScope> scopes)
    {
        foreach (var scope in scopes)
        {
            if (scope.Function is { } f)
                functions[(f.Domain, f.Name)] = scope;
            foreach (var node in scope.Nodes)
            {
                for (var i = 0; i < node.Input.Count; i++)
                {
                    if (node.Input[i].Length == 0 || scope.Resolve(node.Input[i]) is not { } home)
                        continue;
                    var key = (home, node.Input[i]);
                    if (!uses.TryGetValue(key, out var list))
                        uses[key] = list = [];
                    list.Add((scope, node, i));
                }
            }
            foreach (var o in scope.Graph?.Output.Select(v => v.Name) ?? scope.Function!.Output)
                if (scope.Resolve(o) is { } home)
                    outputs.Add((home, o));
        }
    }

    /// <summary>The uses of a value as a weight, or why it has to be left alone.</summary>
    public (IReadOnlyList<WeightUse> Uses, string? SkipReason) Find(GraphScope scope, string value)
    {
        var found = new List<WeightUse>();
        var why = Follow(scope, value, [], found);
        return (found, why ?? (found.Count == 0 ? "nothing uses it" : null));
    }

    /// <summary>The Cast to FLOAT that alone takes a tensor of another type, in the tensor's own scope; else null.</summary>
    public NodeProto? Widening(GraphScope scope, string value, int type)
    {
        if (type == (int)DataType.Float || outputs.Contains((scope, value)))
            return null;
        if (uses.GetValueOrDefault((scope, value)) is not [var (at, node, _)] || at != scope)
            return null;
        if (node is not { OpType: "Cast", Domain: "" or "ai.onnx", Output.Count: 1 })
            return null;
        return node.Attribute.Any(a => a.Name == "to" && a.I == (int)DataType.Float) ? node : null;
    }

    private string? Follow(GraphScope scope, string value, IReadOnlyList<NodeProto> through, List<WeightUse> found)
    {
        if (outputs.Contains((scope, value)))
            return "an output of its graph";
        if (through.Count > MostLayouts || ways > MostWays)
            return "behind too many layout operators";
        foreach (var (at, node, input) in uses.GetValueOrDefault((scope, value)) ?? [])
        {
            if (through.Count > 0 && ++ways > MostWays)
                return "behind too many layout operators";
            var use = new WeightUse(at, node, input, through);
            if ((WeightUse.IsLayout(node, input) || HasOffset(at, node, input)) && node.Output.Count > 0)
            {
                foreach (var output in node.Output)
                    if (output.Length > 0 && Follow(at, output, [.. through, node], found) is { } why)
                        return why;
            }
            else if (functions.TryGetValue((node.Domain, node.OpType), out var function) && input < function.Function!.Input.Count)
            {
                if (Follow(function, function.Function.Input[input], [.. through, node], found) is { } why)
                    return why;
            }
            else if (use.WhyNoWeight is { } other)
                return other;
            else
                found.Add(use);
        }
        return null;
    }

    // W + A·B of the same shape, the product being one of constants: a difference of low rank that layers have beside a weight they share.
    private static bool HasOffset(GraphScope scope, NodeProto node, int input)
    {
        if (node.Operator() != "Add" || node.Input.Count != 2 || Constant(node.Input[input]) is not { } weight)
            return false;
        var other = Producer(node.Input[1 - input]);
        var shape = other?.Operator() == "Reshape" && other.Input.Count == 2 ? Constant(other.Input[1]) : null;
        var product = shape is null ? other : Producer(other!.Input[0]);
        if (product?.Operator() != "MatMul" || Constant(product.Input[0]) is not { } left || Constant(product.Input[1]) is not { } right)
            return false;
        return shape is null
            ? left.Dims is [var rows, _] && right.Dims is [_, var columns] && weight.Dims.SequenceEqual([rows, columns])
            : shape is { DataType: (int)DataType.Int64, DataLocation: not TensorProto.Types.DataLocation.External }
                && weight.Dims.SequenceEqual(MemoryMarshal.Cast<byte, long>(TensorRef.InlineBytes(shape).Span).ToArray());

        NodeProto? Producer(string value) => scope.Resolve(value)?.Index.Producer(value);

        TensorProto? Constant(string value) => scope.Resolve(value)?.Index.Constant(value);
    }
}
