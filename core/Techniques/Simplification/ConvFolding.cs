using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>
/// Folds what follows a Conv and is a factor and an offset per output channel into it (Jacob et al. 2018, §3.2): W′ = W·f,
/// b′ = b·f + o. BatchNormalization has f = γ/√(σ²+ε) and o = β − μ·f; Mul, Div, Add and Sub with a constant are such too.
/// ONNX Runtime does the same at load; doing it before quantization saves vectors, and lets the rounding see the weights
/// that run and an integer kernel see the convolution's own output.
/// </summary>
public static class ConvFolding
{
    private const float DefaultEpsilon = 1e-5f;

    /// <summary>Folds wherever Conv's output feeds nothing else and all parameters are float constants.</summary>
    /// <param name="edit">The edit; constants must be initializers (<see cref="ConstantMerging"/>).</param>
    /// <param name="read">Reads the bytes of a tensor.</param>
    /// <param name="write">Keeps the bytes of a changed weight and points the tensor at them.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>How values of the main graph are distributed that a BatchNormalization makes or made: mean β, deviation |γ|.</returns>
    public static async Task<IReadOnlyDictionary<string, ChannelDistribution>> ApplyAsync(
        ModelEdit edit,
        Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> read,
        Func<TensorProto, ReadOnlyMemory<byte>, CancellationToken, Task> write,
        CancellationToken cancellation
    )
    {
        var normalized = new Dictionary<string, ChannelDistribution>(StringComparer.Ordinal);
        using var batch = edit.Batch();
        foreach (var scope in edit.Roots[0].All())
        {
            var index = scope.Index;
            foreach (var conv in scope.Nodes.Where(n => n is { OpType: "Conv", Domain: "", Output.Count: 1 }).ToList())
            {
                if (Parameter(conv.Input[1]) is not { } weight || weight.Dims.Count < 3 || index.OnlyConsumer(weight.Name) is null)
                    continue;
                var channels = weight.Dims[0];
                TensorProto? bias = null;
                if (
                    channels <= 0
                    || conv.Input.Count > 2
                        && conv.Input[2].Length > 0
                        && ((bias = Parameter(conv.Input[2])) is null || bias.Dims.Count != 1 || bias.Dims[0] != channels)
                )
                    continue;
                var (factor, offset) = (Enumerable.Repeat(1f, (int)channels).ToArray(), new float[channels]);
                var folded = 0;
                ChannelDistribution? distribution = null;
                while (
                    index.OnlyConsumer(conv.Output[0]) is { } next
                    && await AffineAsync(next, conv.Output[0], channels, weight.Dims.Count, Parameter, read, cancellation)
                        is var (f, o, behind)
                )
                {
                    var (factors, offsets) = (
                        factor.Zip(f, (x, y) => x * y).ToArray(),
                        offset.Zip(f, (x, y) => x * y).Zip(o, (x, y) => x + y).ToArray()
                    );
                    if (!factors.Concat(offsets).All(float.IsFinite))
                        break;
                    (factor, offset) = (factors, offsets);
                    distribution = behind ?? distribution?.Affine(f, o);
                    conv.Output[0] = next.Output[0];
                    ModelEdit.Replace(scope, next, []);
                    folded++;
                }
                if (folded == 0)
                    continue;
                if (distribution is not null && scope.Parent is null)
                    normalized[conv.Output[0]] = distribution;
                var weights = Floats(await read(weight, cancellation));
                var each = weights.Length / (int)channels;
                for (var i = 0; i < weights.Length; i++)
                    weights[i] *= factor[i / each];
                await write(weight, MemoryMarshal.AsBytes<float>(weights).ToArray(), cancellation);
                var old = bias is null ? new float[channels] : Floats(await read(bias, cancellation));
                for (var c = 0; c < channels; c++)
                    offset[c] += old[c] * factor[c];
                var name = edit.AddConstant(scope, weight.Name + "_b", ModelEdit.Tensor(offset, channels));
                while (conv.Input.Count < 3)
                    conv.Input.Add("");
                conv.Input[2] = name;
            }
            foreach (
                var norm in scope.Parent is null
                    ? scope.Nodes.Where(n => n is { OpType: "BatchNormalization", Domain: "", Input.Count: 5, Output.Count: > 0 })
                    : []
            )
                if (
                    Parameter(norm.Input[1]) is { Dims.Count: 1 } gamma
                    && await AffineAsync(norm, norm.Input[0], gamma.Dims[0], 4, Parameter, read, cancellation) is (_, _, { } distribution)
                )
                    normalized[norm.Output[0]] = distribution;

            TensorProto? Parameter(string name) => index.Initializer(name) is { DataType: (int)DataType.Float } t ? t : null;
        }
        return normalized;
    }

    private static async Task<(float[] Factor, float[] Offset, ChannelDistribution? Behind)?> AffineAsync(
        NodeProto node,
        string input,
        long channels,
        int rank,
        Func<string, TensorProto?> parameter,
        Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> read,
        CancellationToken cancellation
    )
    {
        if (node is { OpType: "BatchNormalization", Domain: "", Input.Count: 5 })
        {
            if (
                node.Input[0] != input
                || node.Output.Skip(1).Any(o => o.Length > 0)
                || node.Attribute.Any(a => a.Name == "training_mode" && a.I != 0)
            )
                return null;
            var parameters = node.Input.Skip(1).Select(parameter).ToList();
            if (parameters.Any(p => p is null || p.Dims.Count != 1 || p.Dims[0] != channels))
                return null;
            var epsilon = node.Attribute.FirstOrDefault(a => a.Name == "epsilon")?.F ?? DefaultEpsilon;
            var v = new float[4][];
            for (var i = 0; i < 4; i++)
                v[i] = Floats(await read(parameters[i]!, cancellation));
            var factor = v[0].Zip(v[3], (gamma, variance) => gamma / MathF.Sqrt(variance + epsilon)).ToArray();
            return (
                factor,
                [.. Enumerable.Range(0, factor.Length).Select(c => v[1][c] - v[2][c] * factor[c])],
                new ChannelDistribution([.. v[1].Select(beta => (double)beta)], [.. v[0].Select(gamma => (double)MathF.Abs(gamma))])
            );
        }
        if (node is not { OpType: "Mul" or "Div" or "Add" or "Sub", Domain: "", Input.Count: 2 })
            return null;
        var first = node.Input[0] == input;
        if (
            !first && node.OpType is "Div" or "Sub"
            || parameter(node.Input[first ? 1 : 0]) is not { } constant
            || constant.Dims.Count > rank
        )
            return null;
        var dims = Enumerable.Repeat(1L, rank - constant.Dims.Count).Concat(constant.Dims).ToList();
        if (dims.Where((d, i) => i != 1 && d != 1).Any() || dims[1] != 1 && dims[1] != channels)
            return null;
        var values = Floats(await read(constant, cancellation));
        if (values.Length == 1)
            values = [.. Enumerable.Repeat(values[0], (int)channels)];
        var (ones, zeros) = (Enumerable.Repeat(1f, values.Length).ToArray(), new float[values.Length]);
        return node.OpType switch
        {
            "Mul" => (values, zeros, null),
            "Div" => ([.. values.Select(x => 1 / x)], zeros, null),
            "Add" => (ones, values, null),
            _ => (ones, [.. values.Select(x => -x)], null),
        };
    }

    private static float[] Floats(ReadOnlyMemory<byte> bytes)
    {
        var floats = new float[bytes.Length / 4];
        for (var i = 0; i < floats.Length; i++)
            floats[i] = BinaryPrimitives.ReadSingleLittleEndian(bytes.Span[(i * 4)..]);
        return floats;
    }
}
