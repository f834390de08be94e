using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>A product or convolution with a stored weight, whose time follows from how many outputs and inputs it has.</summary>
/// <param name="Node">The node; the weight is its second input.</param>
/// <param name="Opset">The operator set.</param>
/// <param name="Weight">Shape of the weight.</param>
/// <param name="Input">Shape of what it takes, in a run.</param>
/// <param name="Bias">Shape of the bias; null where it has none.</param>
/// <param name="OutputAxis">The weight's axis of outputs.</param>
/// <param name="InputAxis">The weight's axis of inputs; null for a depthwise convolution, which has as many inputs as outputs.</param>
internal sealed record TimedLayer(
    NodeProto Node,
    long Opset,
    IReadOnlyList<long> Weight,
    IReadOnlyList<long> Input,
    IReadOnlyList<long>? Bias,
    int OutputAxis,
    int? InputAxis
)
{
    /// <summary>Outputs.</summary>
    public long Outputs => Weight[OutputAxis];

    /// <summary>Inputs.</summary>
    public long Inputs => InputAxis is { } axis ? Weight[axis] : Outputs;

    private int ChannelAxis => Node.OpType.StartsWith("Conv", StringComparison.Ordinal) ? 1 : Input.Count - 1;

    /// <summary>The layer of a node; null where the time of its operator is not told by a table.</summary>
    /// <param name="use">The use of a weight of floats.</param>
    /// <param name="dims">The weight's shape.</param>
    /// <param name="shapeOf">The shapes of values in a run.</param>
    public static TimedLayer? Of(WeightUse use, IReadOnlyList<long> dims, Func<string, IReadOnlyList<long>?> shapeOf)
    {
        var node = use.Node;
        if (!use.Direct || use.Input != 1 || WeightUse.Domain(node).Length > 0)
            return null;
        var group = use.IntAttribute("group", 1);
        (int Output, int? Input)? axes = (node.OpType, dims.Count) switch
        {
            ("MatMul", 2) => (1, 0),
            ("Gemm", 2) when use.IntAttribute("transA", 0) == 0 => use.IntAttribute("transB", 0) == 0 ? (1, 0) : (0, 1),
            ("Conv", > 2) when group == 1 => (0, 1),
            ("Conv", > 2) when group == dims[0] && dims[1] == 1 => (0, null),
            ("ConvTranspose", > 2) when group == 1 => (1, 0),
            _ => null,
        };
        if (axes is not var (output, input) || shapeOf(node.Input[0]) is not { Count: > 1 } taken || taken.Any(d => d <= 0))
            return null;
        var bias = node.Input is [_, _, { Length: > 0 } name, ..] ? shapeOf(name) : null;
        var layer = new TimedLayer(node, use.Scope.Opset, dims, taken, bias, output, input);
        return layer.ChannelAxis < taken.Count && taken[layer.ChannelAxis] == layer.Inputs ? layer : null;
    }

    /// <summary>The layer with so many outputs and inputs.</summary>
    public OperatorCall Call(long outputs, long inputs)
    {
        inputs = InputAxis is null ? outputs : inputs;
        var (weight, input, bias) = (Weight.ToArray(), Input.ToArray(), Bias?.ToArray());
        (weight[OutputAxis], input[ChannelAxis]) = (outputs, inputs);
        if (InputAxis is { } axis)
            weight[axis] = inputs;
        if (bias is { Length: > 0 } && bias[^1] == Outputs)
            bias[^1] = outputs;
        var attributes = Node.Attribute.Select(a => a.Clone()).ToList();
        foreach (var a in attributes.Where(a => a.Name == "group" && InputAxis is null))
            a.I = outputs;
        List<Operand?> operands = [new(DataType.Float, input, false), new(DataType.Float, weight, true)];
        if (bias is not null)
            operands.Add(new Operand(DataType.Float, bias, true));
        return new OperatorCall(Node.OpType, Opset, attributes, operands);
    }
}
