using System.Numerics.Tensors;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// A layer y = x·Wᵀ + b of the main graph, of FLOAT or FLOAT16: a MatMul, a Gemm or a convolution without groups, with one use. Its weight
/// is seen as rows, one an output, of columns, one an element of what it takes.
/// </summary>
/// <param name="Tensor">Place of the weight among the constants of the model.</param>
/// <param name="View">How its input is seen as rows.</param>
/// <param name="Rows">Outputs.</param>
/// <param name="Columns">Elements of a row of the input.</param>
/// <param name="RowsFirst">Whether rows lie one after another in the stored weight, else columns do.</param>
/// <param name="Output">Name of y, or of y − b where an Add behind the product adds the bias.</param>
internal sealed record LinearLayer(int Tensor, InputView View, int Rows, int Columns, bool RowsFirst, string Output)
{
    /// <summary>Place of the bias among the constants; null where there is none of its own.</summary>
    public int? Bias { get; init; }

    /// <summary>Whether an Add behind the product adds the bias, so that <see cref="Output"/> is without it.</summary>
    public bool BiasBehind { get; init; }

    /// <summary>FLOAT or FLOAT16.</summary>
    public DataType Type { get; init; } = DataType.Float;

    /// <summary>The axis of the stored weight that rows lie along; columns along the other, kernels included.</summary>
    public int RowAxis => RowsFirst ? 0 : 1;

    /// <summary>Columns of an index of the weight's other axis: a channel's part of the kernel.</summary>
    public int Kernel => View.Window is { } w ? w.Kernel[0] * w.Kernel[1] : 1;

    /// <summary>Whether the outputs lie along axis 1 of y, as those of a convolution do; else along the last.</summary>
    public bool IsConvolution => View.Window is not null;

    /// <summary>The layers of a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="facts">Its facts.</param>
    /// <param name="places">Each constant's place.</param>
    public static IReadOnlyList<LinearLayer> Of(ModelProto model, GraphFacts facts, IReadOnlyDictionary<TensorProto, int> places) =>
        [.. Weight.Of(model, facts.Roots).Select(w => Of(w, facts, places)).OfType<LinearLayer>()];

    private static LinearLayer? Of(Weight weight, GraphFacts facts, IReadOnlyDictionary<TensorProto, int> places)
    {
        var dims = weight.Reference.Dims;
        if (
            weight.SkipReason is not null
            || weight.Uses is not [{ Direct: true, Input: 1, Scope: { Parent: null, Function: null } } use]
            || (DataType)weight.Type is not (DataType.Float or DataType.Float16)
            || LayerShape.WhyUnfit(weight) is not null
        )
            return null;
        var rowsFirst = use.Op == "Conv" || use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;
        var fits = use.Op switch
        {
            "MatMul" => dims.Length == 2,
            "Gemm" => use.IntAttribute("transA", 0) == 0 && use.FloatAttribute("alpha", 1) == 1 && use.FloatAttribute("beta", 1) == 1,
            "Conv" => use.IntAttribute("group", 1) == 1 && dims.Length is 3 or 4,
            _ => false,
        };
        var shape = LayerShape.Of(weight);
        if (!fits || shape.Rows > int.MaxValue || InputView.Of(weight, shape) is not ([var view], null))
            return null;
        var layer = new LinearLayer(places[weight.Tensor], view, (int)shape.Rows, (int)shape.Axis, rowsFirst, use.Node.Output[0])
        {
            Type = (DataType)weight.Type,
        };
        var (bias, behind) = BiasOf(use, facts.Main);
        return bias is not null && bias.Dims is [var length] && length == layer.Rows && bias.DataType == weight.Type
            ? layer with
            {
                Bias = places[bias],
                BiasBehind = behind,
            }
            : layer;
    }

    // A bias that others take too may not change.
    private static (TensorProto? Bias, bool Behind) BiasOf(WeightUse use, ScopeFacts facts)
    {
        if (use.Op != "MatMul")
            return use.Node.Input is [_, _, { Length: > 0 } name, ..] ? (Own(name), false) : (null, false);
        if (facts.OnlyConsumer(use.Node.Output[0]) is not { OpType: "Add", Domain: "" or "ai.onnx", Input.Count: 2 } add)
            return (null, false);
        return (Own(add.Input[0] == use.Node.Output[0] ? add.Input[1] : add.Input[0]), true);

        TensorProto? Own(string name) => facts.OnlyConsumer(name) is not null ? facts.Stored(name) : null;
    }

    /// <summary>The weight as rows × columns.</summary>
    public double[] Matrix(ReadOnlySpan<float> stored)
    {
        var matrix = new double[(long)Rows * Columns];
        for (var r = 0; r < Rows; r++)
        for (var k = 0; k < Columns; k++)
            matrix[(long)r * Columns + k] = stored[(int)(RowsFirst ? (long)r * Columns + k : (long)k * Rows + r)];
        return matrix;
    }

    /// <summary>Rows × columns as the weight is stored.</summary>
    public float[] Stored(ReadOnlySpan<double> matrix)
    {
        var stored = new float[matrix.Length];
        for (var r = 0; r < Rows; r++)
        for (var k = 0; k < Columns; k++)
            stored[(int)(RowsFirst ? (long)r * Columns + k : (long)k * Rows + r)] = (float)matrix[r * Columns + k];
        return stored;
    }

    /// <summary>Whether the layer's type holds some weights.</summary>
    public bool Holds(ReadOnlySpan<double> weights) =>
        Type == DataType.Float || Math.Abs(TensorPrimitives.MaxMagnitude(weights)) <= (double)Half.MaxValue;

    /// <summary>Columns of some indices of the axis that they lie along.</summary>
    public IEnumerable<int> ColumnsOf(IEnumerable<int> indices) => indices.SelectMany(i => Enumerable.Range(i * Kernel, Kernel));

    /// <summary>The layer with some of its outputs and inputs alone.</summary>
    /// <param name="rows">How many outputs.</param>
    /// <param name="columns">How many columns.</param>
    public LinearLayer Cut(int rows, int columns) => this with { Rows = rows, Columns = columns, View = View with { Axis = columns } };
}
