using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>A rule that infers what an operator makes.</summary>
internal delegate void ShapeRule(InferredNode node);

/// <summary>A node with what is known of its inputs, which a rule turns into what is known of its outputs.</summary>
/// <param name="scope">The scope of the node.</param>
/// <param name="node">The node.</param>
/// <param name="inputs">What is known of each input; null of one left out.</param>
internal sealed class InferredNode(GraphScope scope, NodeProto node, IReadOnlyList<ValueFact?> inputs)
{
    /// <summary>The scope.</summary>
    public GraphScope Scope => scope;

    /// <summary>The node.</summary>
    public NodeProto Node => node;

    /// <summary>The version of the default operator set.</summary>
    public long Opset => scope.Opset;

    /// <summary>Inputs, those left out at the end too.</summary>
    public int Count => inputs.Count;

    /// <summary>What is known of the outputs.</summary>
    public ValueFact?[] Outputs { get; } = new ValueFact?[node.Output.Count];

    /// <summary>What is known of an input; null when it is left out.</summary>
    public ValueFact? Input(int i) => i < inputs.Count ? inputs[i] : null;

    /// <summary>Element type of an input.</summary>
    public DataType Type(int i) => Input(i)?.Type ?? DataType.Undefined;

    /// <summary>Axes of an input.</summary>
    public IReadOnlyList<Dim>? Dims(int i) => Input(i)?.Shape;

    /// <summary>Whole numbers that an input holds.</summary>
    public IReadOnlyList<ShapeNumber>? Numbers(int i) => Input(i)?.Numbers;

    /// <summary>Whole numbers that an input holds, where each is the same in every run.</summary>
    public IReadOnlyList<long>? Constants(int i) => Input(i)?.Constants;

    /// <summary>Numbers of an attribute, or of the input that took its place in a later version.</summary>
    /// <param name="attribute">Name of the attribute.</param>
    /// <param name="input">The input.</param>
    /// <param name="given">Whether either is there.</param>
    public IReadOnlyList<long>? Setting(string attribute, int input, out bool given)
    {
        if (node.Ints(attribute) is { } ints)
        {
            given = true;
            return ints;
        }
        given = node.Has(input);
        return given ? Constants(input) : null;
    }

    /// <summary>Notes what is known of an output.</summary>
    public void Make(int output, DataType type, IEnumerable<Dim?>? shape, IReadOnlyList<ShapeNumber>? numbers = null)
    {
        if (output >= Outputs.Length)
            return;
        Outputs[output] = new ValueFact(type, shape?.Select(d => d ?? Unknown).ToArray()) { Numbers = numbers };
    }

    /// <summary>Stands for a length that is not known, until it is given a name of its own.</summary>
    internal static Dim Unknown { get; } = Dim.Symbol("?");
}
