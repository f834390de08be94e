using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Writes tiles of rows as the dense weight that they are of.</summary>
/// <param name="shape">The view: one of its slices and inner elements is 1.</param>
/// <param name="dataType">ONNX element type.</param>
/// <param name="shard">Receives the weight.</param>
internal sealed class DenseRows(LayerShape shape, int dataType, Stream shard)
{
    private readonly int size = DataTypes.Bits(dataType) / 8;

    // Where rows are columns of the stored matrix, all are there before the first is written.
    private readonly float[] turned = shape.Inner == 1 ? [] : new float[checked((int)shape.Elements)];
    private readonly double largest = dataType == (int)DataType.Float16 ? (double)Half.MaxValue : float.MaxValue;
    private double error,
        squares;
    private long nonzero;

    /// <summary>Takes rows, each once and in order.</summary>
    /// <param name="before">As they were.</param>
    /// <param name="after">Element (column, row) at <c>column · rows + row</c>.</param>
    /// <param name="cancellation">Cancels the writing.</param>
    /// <exception cref="LayerRefusedException">A value is beyond the element type.</exception>
    public async Task WriteAsync(RowTile before, double[] after, CancellationToken cancellation)
    {
        var (axis, rows) = ((int)shape.Axis, before.Rows);
        for (var i = 0; i < after.Length; i++)
        {
            if (!(Math.Abs(after[i]) <= largest))
                throw new LayerRefusedException($"its corrected weights do not fit {DataTypes.Name(dataType)}");
            var off = before.Values[i] - after[i];
            (error, squares) = (error + off * off, squares + before.Values[i] * before.Values[i]);
            nonzero += after[i] != 0 ? 1 : 0;
        }
        if (shape.Inner > 1)
        {
            for (var k = 0; k < axis; k++)
            for (var r = 0; r < rows; r++)
                turned[k * shape.Inner + before.First + r] = (float)after[k * rows + r];
            return;
        }
        var row = new float[axis];
        for (var r = 0; r < rows; r++)
        {
            for (var k = 0; k < axis; k++)
                row[k] = (float)after[k * rows + r];
            await PutAsync(row, cancellation);
        }
    }

    /// <summary>Describes the weight, when all rows are there.</summary>
    public async Task<EncodedLayer> FinishAsync(CancellationToken cancellation)
    {
        for (var at = 0; at < turned.Length; at += WeightReader.Whole)
            await PutAsync(turned.AsMemory(at, Math.Min(WeightReader.Whole, turned.Length - at)), cancellation);
        var relative = squares == 0 ? 0 : Math.Sqrt(error / squares);
        return EncodedLayer.OfFloats(FormName.Dense, shape, dataType, shape.Elements * size, relative, nonzero);
    }

    private async Task PutAsync(ReadOnlyMemory<float> values, CancellationToken cancellation)
    {
        var raw = new byte[values.Length * size];
        FloatConversion.FromFloat(values.Span, dataType, raw);
        await shard.WriteAsync(raw, cancellation);
    }
}
