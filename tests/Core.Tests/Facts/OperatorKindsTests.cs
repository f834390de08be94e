using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>What is said of a kind of operators holds for what ONNX Runtime computes.</summary>
public class OperatorKindsTests
{
    private const int Opset = 20;
    private static readonly long[] Shape = [2, 3, 4, 1];
    private static readonly float[] X = [.. Enumerable.Range(0, 24).Select(i => (i * 7 % 24 - 11.5f) / 3)];

    // Every function in the table that ONNX Runtime has at this operator set.
    public static TheoryData<string> Functions =>
        [
            .. OperatorFacts
                .With(ChannelEffect.Elementwise)
                .Where(f => f.Data == 1 && OperatorKinds.IsFunction(Unary(f.Operator)))
                .Select(f => f.Operator)
                .Where(o => o is not ("Not" or "BitwiseNot" or "Swish")),
        ];

    [Theory]
    [MemberData(nameof(Functions))]
    public void A_function_makes_the_same_of_an_element_wherever_it_stands(string op)
    {
        float[] x = op is "Log" or "Sqrt" or "Acosh" ? [.. X.Select(v => Math.Abs(v) + 1)] : X;
        var (y, shape) = Run(Unary(op), x);
        var (turned, _) = Run(Unary(op), [.. x.Reverse()]);
        Assert.Equal(Shape, shape);
        foreach (var (a, b) in y.Zip(turned.Reverse()))
            Assert.True(float.IsNaN(a) && float.IsNaN(b) || Math.Abs(a - b) <= 1e-5 * (1 + Math.Abs(a)), $"{a} here, {b} there");
    }

    [Theory]
    [InlineData("Sigmoid")]
    [InlineData("HardSigmoid")]
    public void A_gate_lies_between_0_and_1(string op)
    {
        Assert.True(OperatorKinds.IsGate(Unary(op)) && OperatorKinds.IsFunction(Unary(op)));
        Assert.All(Run(Unary(op), [.. X.Select(v => 20 * v)]).Values, v => Assert.InRange(v, 0, 1));
    }

    [Theory]
    [InlineData("Relu", float.PositiveInfinity)]
    [InlineData("Clip", 2)]
    public void A_bound_changes_what_lies_outside_alone(string op, float high)
    {
        var node = Node(op, op == "Clip" ? ["x", "low", "high"] : ["x"], ["y"]);
        Assert.True(OperatorKinds.IsBound(node));
        var model = Model(node);
        if (op == "Clip")
            model.Initializer(Tensor("low", [0])).Initializer(Tensor("high", [high]));
        Assert.Equal(X.Select(v => Math.Min(Math.Max(v, 0), high)), Run(model, X).Values);
    }

    [Theory]
    [InlineData("Identity")]
    [InlineData("Flatten")]
    [InlineData("Transpose")]
    [InlineData("Reshape", 4L, -1L)]
    [InlineData("Squeeze", 3L)]
    [InlineData("Unsqueeze", 0L)]
    public void A_rearrangement_holds_each_element_once(string op, params long[] setting)
    {
        var node = Node(op, setting.Length > 0 ? ["x", "s"] : ["x"], ["y"]);
        Assert.True(OperatorKinds.IsRearrangement(node));
        var bytes = setting.SelectMany(BitConverter.GetBytes).ToArray();
        var model = Model(node);
        if (setting.Length > 0)
            model.Initializer(Tensor("s", DataType.Int64, bytes, setting.Length));
        Assert.Equal(X.Order(), Run(model, X).Values.Order());
    }

    [Theory]
    [InlineData("GlobalAveragePool")]
    [InlineData("GlobalMaxPool")]
    [InlineData("GlobalLpPool")]
    public void A_global_pool_leaves_one_element_a_channel(string op)
    {
        Assert.True(OperatorKinds.IsGlobalPool(Unary(op)));
        Assert.Equal([2L, 3, 1, 1], Run(Unary(op), X).Shape);
    }

    [Theory]
    [InlineData("RandomNormalLike")]
    [InlineData("RandomUniformLike")]
    [InlineData("Bernoulli")]
    public void A_random_operator_draws_other_numbers_in_another_run(string op)
    {
        Assert.True(OperatorKinds.IsRandom(Unary(op)));
        using var session = new InferenceSession(Model(Unary(op)).ToByteArray());
        float[] halves = [.. X.Select(_ => 0.5f)];
        Assert.NotEqual(Run(session, halves).Values, Run(session, halves).Values);
    }

    [Fact]
    public void What_only_resembles_a_kind_is_none()
    {
        Assert.False(OperatorKinds.IsRandom(Unary("Dropout")));
        Assert.False(OperatorKinds.IsFunction(Unary("Softmax")));
        Assert.False(OperatorKinds.IsFunction(Unary("Cast")));
        Assert.False(OperatorKinds.IsFunction(Node("Dropout", ["x"], ["y", "mask"])));
        Assert.False(OperatorKinds.IsFunction(Node("PRelu", ["x", "slope"], ["y"])));
        Assert.False(OperatorKinds.IsRearrangement(Unary("Slice")));
        Assert.False(OperatorKinds.IsGlobalPool(Unary("AveragePool")));
        Assert.False(OperatorKinds.IsGate(Unary("com.example.Sigmoid")));
        Assert.False(OperatorKinds.HasIntegerKernel(Node("Conv", ["x", "w"], ["y"])));
        Assert.True(OperatorKinds.HasIntegerKernel(Node("Add", ["x", "w"], ["y"])));
    }

    // An operator as the table writes it, as com.microsoft.Gelu.
    private static NodeProto Unary(string op)
    {
        var dot = op.LastIndexOf('.');
        return Node(dot < 0 ? op : $"{op[..dot]}:{op[(dot + 1)..]}", ["x"], ["y"]);
    }

    private static ModelProto Model(NodeProto node) =>
        OfOpset(Opset, "com.microsoft").Input("x", DataType.Float, [.. Shape.Cast<object>()]).With(node).Output("y");

    private static (float[] Values, long[] Shape) Run(NodeProto node, float[] x) => Run(Model(node), x);

    private static (float[] Values, long[] Shape) Run(ModelProto model, float[] x)
    {
        using var session = new InferenceSession(model.ToByteArray());
        return Run(session, x);
    }

    private static (float[] Values, long[] Shape) Run(InferenceSession session, float[] x)
    {
        var input = new DenseTensor<float>(x, [.. Shape.Select(d => (int)d)]);
        using var results = session.Run([NamedOnnxValue.CreateFromTensor("x", input)]);
        var y = results[0].AsTensor<float>();
        return ([.. y], [.. y.Dimensions.ToArray().Select(d => (long)d)]);
    }
}
