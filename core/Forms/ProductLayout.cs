using System.Text.Json.Serialization;
using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>A weight that a product can stand for, as outputs × inputs × kernel.</summary>
/// <param name="Op">The operator that takes it.</param>
/// <param name="Dims">Its dimensions as stored.</param>
/// <param name="Outputs">Outputs: channels of a convolution, gates times units times directions of a recurrent layer.</param>
/// <param name="Inputs">Inputs.</param>
/// <param name="Kernel">Lengths of a convolution's kernel; none of a matrix.</param>
/// <param name="Strides">Its strides, the largest of all uses.</param>
/// <param name="OutputsFirst">Whether outputs lie along the first axis.</param>
public sealed record ProductLayout(
    string Op,
    IReadOnlyList<long> Dims,
    long Outputs,
    long Inputs,
    IReadOnlyList<int> Kernel,
    IReadOnlyList<int> Strides,
    bool OutputsFirst
)
{
    /// <summary>Elements of the kernel.</summary>
    [JsonIgnore]
    public long Pixels => Kernel.Aggregate(1L, (a, k) => a * k);

    /// <summary>Weights.</summary>
    [JsonIgnore]
    public long Elements => Outputs * Inputs * Pixels;

    /// <summary>Whether a MatMul in front of the operator takes the first factor, and the operator the last.</summary>
    [JsonIgnore]
    public bool IsRecurrent => Op is "LSTM" or "GRU" or "RNN";

    /// <summary>The layout of a weight that <see cref="ProductForm.WhyNot"/> has nothing against.</summary>
    public static ProductLayout Of(Weight weight)
    {
        var (dims, op, first) = (weight.Reference.Dims, weight.Uses[0].Op, ProductForm.StoredOutputsFirst(weight.Uses[0]));
        if (op is "LSTM" or "GRU" or "RNN")
            return new(op, dims, dims[0] * dims[1], dims[2], [], [], first);
        if (op != "Conv")
            return new(op, dims, first ? dims[0] : dims[1], first ? dims[1] : dims[0], [], [], first);
        int[] strides = [.. dims.Skip(2).Select((_, axis) => weight.Uses.Max(u => Stride(u, axis)))];
        return new(op, dims, dims[0], dims[1], [.. dims.Skip(2).Select(k => checked((int)k))], strides, first);
    }

    private static int Stride(WeightUse use, int axis)
    {
        var strides = use.Node.Ints("strides");
        return strides is not null && axis < strides.Count ? (int)Math.Clamp(strides[axis], 1, int.MaxValue) : 1;
    }
}
