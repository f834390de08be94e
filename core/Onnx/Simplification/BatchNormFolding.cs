using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Onnx.Schema;
using DataType = Serverless.Core.Onnx.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Onnx.Simplification;

/// <summary>
/// Folds BatchNormalization into the Conv before it (Jacob et al. 2018, §3.2): W′ = W·γ/√(σ²+ε) per output channel,
/// b′ = (b−μ)·γ/√(σ²+ε) + β. ONNX Runtime does the same at load; doing it before quantization saves four vectors a
/// layer and lets the rounding see the weights that run.
/// </summary>
public static class BatchNormFolding
{
    private const float DefaultEpsilon = 1e-5f;

    /// <summary>Folds wherever Conv's output feeds nothing else and all parameters are float constants.</summary>
    /// <param name="edit">The edit; constants must be initializers (<see cref="ConstantMerging"/>).</param>
    /// <param name="read">Reads the bytes of a tensor.</param>
    /// <param name="write">Keeps the bytes of a changed weight and points the tensor at them.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>How many were folded.</returns>
    public static async Task<int> ApplyAsync(
        ModelEdit edit, Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> read,
        Func<TensorProto, ReadOnlyMemory<byte>, CancellationToken, Task> write, CancellationToken cancellation)
    {
        var folded = 0;
        foreach (var scope in edit.Roots[0].All())
        {
            var uses = CountUses(scope);
            var initializers = scope.Graph!.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
            var producers = scope.Nodes.Where(n => n is { OpType: "Conv", Domain: "", Output.Count: 1 }).ToDictionary(n => n.Output[0], StringComparer.Ordinal);
            foreach (var norm in scope.Nodes.Where(n => n is { OpType: "BatchNormalization", Domain: "", Input.Count: 5 }).ToList())
            {
                if (!producers.TryGetValue(norm.Input[0], out var conv) || uses.GetValueOrDefault(conv.Output[0]) != 1) continue;
                if (norm.Output.Skip(1).Any(o => o.Length > 0) || norm.Attribute.Any(a => a.Name == "training_mode" && a.I != 0)) continue;
                if (Parameter(conv.Input[1]) is not { } weight || weight.Dims.Count < 3 || uses[weight.Name] != 1) continue;
                var parameters = norm.Input.Skip(1).Select(Parameter).ToList();
                var channels = weight.Dims[0];
                if (channels <= 0 || parameters.Any(p => p is null || p.Dims.Count != 1 || p.Dims[0] != channels)) continue;
                TensorProto? bias = null;
                if (conv.Input.Count > 2 && conv.Input[2].Length > 0 && ((bias = Parameter(conv.Input[2])) is null || bias.Dims.Count != 1 || bias.Dims[0] != channels)) continue;

                var epsilon = norm.Attribute.FirstOrDefault(a => a.Name == "epsilon")?.F ?? DefaultEpsilon;
                var vectors = new float[4][];
                for (var i = 0; i < 4; i++) vectors[i] = Floats(await read(parameters[i]!, cancellation));
                var old = bias is null ? new float[channels] : Floats(await read(bias, cancellation));
                var factor = new float[channels];
                var shifted = new float[channels];
                for (var c = 0; c < channels; c++)
                {
                    factor[c] = vectors[0][c] / MathF.Sqrt(vectors[3][c] + epsilon);
                    shifted[c] = (old[c] - vectors[2][c]) * factor[c] + vectors[1][c];
                }
                if (!factor.Concat(shifted).All(float.IsFinite)) continue;
                var weights = Floats(await read(weight, cancellation));
                var each = weights.Length / (int)channels;
                for (var i = 0; i < weights.Length; i++) weights[i] *= factor[i / each];
                await write(weight, MemoryMarshal.AsBytes<float>(weights).ToArray(), cancellation);

                var vector = new TensorProto { DataType = (int)DataType.Float, RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(shifted)) };
                vector.Dims.Add(channels);
                var name = edit.AddConstant(scope, weight.Name + "_b", vector);
                while (conv.Input.Count < 3) conv.Input.Add("");
                conv.Input[2] = name;
                conv.Output[0] = norm.Output[0];
                ModelEdit.Replace(scope, norm, []);
                folded++;
            }

            TensorProto? Parameter(string name) => initializers.GetValueOrDefault(name) is { DataType: (int)DataType.Float } t ? t : null;
        }
        return folded;
    }

    private static Dictionary<string, int> CountUses(GraphScope scope)
    {
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var inner in scope.All())
            foreach (var name in inner.Nodes.SelectMany(n => n.Input).Concat(inner.Graph!.Output.Select(o => o.Name)))
                counts[name] = counts.GetValueOrDefault(name) + 1;
        return counts;
    }

    private static float[] Floats(ReadOnlyMemory<byte> bytes)
    {
        var floats = new float[bytes.Length / 4];
        for (var i = 0; i < floats.Length; i++) floats[i] = BinaryPrimitives.ReadSingleLittleEndian(bytes.Span[(i * 4)..]);
        return floats;
    }
}
