using Google.Protobuf;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Nodes over constants that compute a weight: ONNX Runtime folds them at load.</summary>
/// <param name="edit">The edit of the model.</param>
/// <param name="weight">The weight, whose own definition is removed.</param>
public sealed class ConstantSubgraph(ModelEdit edit, Weight weight)
{
    private const long SliceWithInputs = 10;
    private readonly List<NodeProto> nodes = [];

    /// <summary>The edit of the model.</summary>
    public ModelEdit Edit => edit;

    /// <summary>The scope of the weight.</summary>
    public GraphScope Scope => weight.Scope;

    /// <summary>Adds a node with one output.</summary>
    /// <returns>The output's name.</returns>
    public string Add(string op, string[] inputs, params AttributeProto[] attributes)
    {
        var output = edit.FreshName(weight.Value + "_d");
        nodes.Add(ModelEdit.Node(op, inputs, [output], attributes));
        return output;
    }

    /// <summary>Adds a constant.</summary>
    /// <param name="suffix">What its name has behind the weight's.</param>
    /// <param name="tensor">The constant.</param>
    public string Constant(string suffix, TensorProto tensor) => edit.AddConstant(Scope, weight.Value + suffix, tensor);

    /// <summary>Casts a value.</summary>
    public string Cast(string value, DataType type) => Add("Cast", [value], ModelEdit.Attribute("to", (long)type));

    /// <summary>Gives a value other dimensions.</summary>
    public string Reshape(string value, params long[] dims) => Add("Reshape", [value, edit.Int64s(Scope, dims)]);

    /// <summary>Adds zeros.</summary>
    public string Zeros(DataType type, params long[] dims)
    {
        var zero = new TensorProto { DataType = (int)type, RawData = ByteString.CopyFrom(new byte[DataTypes.Bits((int)type) / 8]) };
        zero.Dims.Add(1);
        return Add("ConstantOfShape", [edit.Int64s(Scope, dims)], ModelEdit.Attribute("value", zero));
    }

    /// <summary>Keeps the first elements of an axis.</summary>
    public string Slice(string value, long axis, long end) =>
        Scope.Opset >= SliceWithInputs
            ? Add("Slice", [value, edit.Int64s(Scope, 0), edit.Int64s(Scope, end), edit.Int64s(Scope, axis)])
            : Add(
                "Slice",
                [value],
                ModelEdit.Attribute("axes", [axis]),
                ModelEdit.Attribute("ends", [end]),
                ModelEdit.Attribute("starts", [0L])
            );

    /// <summary>Lets the last node make the weight's own value, and puts all of them in front of the scope's nodes.</summary>
    public void Finish()
    {
        nodes[^1].Output[0] = weight.Value;
        Insert();
    }

    /// <summary>Puts all nodes in front of the scope's.</summary>
    public void Insert() => ModelEdit.InsertFirst(Scope, nodes);
}
