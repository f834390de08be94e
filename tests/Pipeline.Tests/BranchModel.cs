using Serverless.Core.Model.Schema;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>A model of two branches alike, of which samples take the first alone; what they take depends on the data.</summary>
internal static class BranchModel
{
    public static ModelProto Create(int opset = 13)
    {
        return OfOpset(opset)
            .Input("x", DataType.Float, 6, 48)
            .Initializer(Tensor("least", [-1f], 1))
            .With(
                Node("ReduceMax", ["x"], ["most"], new AttributeProto { Name = "keepdims", Type = AttributeProto.Types.AttributeType.Int }),
                Node("Greater", ["most", "least"], ["yes"]),
                Node("If", ["yes"], ["y"], Subgraph("then_branch", Branch("taken")), Subgraph("else_branch", Branch("other")))
            )
            .Output("y");
    }

    private static GraphProto Branch(string name)
    {
        var branch = new GraphProto { Name = name };
        branch.Initializer.AddRange([
            Tensor($"{name}_a", Random($"{name}_a", 48, 96), 48, 96),
            Tensor($"{name}_b", Random($"{name}_b", 96, 48), 96, 48),
        ]);
        branch.Node.AddRange([
            Node("MatMul", ["x", $"{name}_a"], [$"{name}_h"]),
            Node("Relu", [$"{name}_h"], [$"{name}_r"]),
            Node("MatMul", [$"{name}_r", $"{name}_b"], [$"{name}_y"]),
        ]);
        branch.Output.Add(Value($"{name}_y", DataType.Float, 6, 48));
        return branch;
    }
}
