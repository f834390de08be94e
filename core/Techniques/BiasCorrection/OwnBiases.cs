using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>Gives coded Conv and Gemm layers of the main graph biases of their own: they may share one, or have none.</summary>
internal static class OwnBiases
{
    /// <summary>Changes the graph.</summary>
    /// <param name="model">The graph.</param>
    /// <param name="coded">Coded layers by the name of their weight.</param>
    /// <param name="shifts">Value of a layer → what to add to its bias; layers without are left. Null for every layer, with nothing
    /// added.</param>
    /// <param name="read">Reads a small constant.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    /// <returns>Value of a layer → the name of its bias.</returns>
    public static async Task<IReadOnlyDictionary<string, string>> GiveAsync(
        ModelProto model,
        IReadOnlyDictionary<string, CodedLayer> coded,
        IReadOnlyDictionary<string, float[]>? shifts,
        Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> read,
        CancellationToken cancellation
    )
    {
        var edit = new ModelEdit(model);
        var (own, main) = (new Dictionary<string, string>(StringComparer.Ordinal), edit.Roots[0]);
        var initializers = main.Constants.ToDictionary(t => t.Name, StringComparer.Ordinal);
        foreach (var weight in Weight.Of(model).Where(w => coded.ContainsKey(w.Name) && w.Type == (int)DataType.Float))
        {
            foreach (var use in weight.Uses.Where(TakesBias))
            {
                var value = use.Node.Output[0];
                if (shifts is not null && !shifts.ContainsKey(value))
                    continue;
                var channels = (int)weight.Reference.Dims[use.Op == "Conv" || use.IntAttribute("transB", 0) != 0 ? 0 : 1];
                var name = use.Node.Input.Count > 2 ? use.Node.Input[2] : "";
                if (name.Length > 0 && initializers.GetValueOrDefault(name) is not { DataType: (int)DataType.Float, Dims.Count: 1 })
                    continue;
                var bias =
                    name.Length == 0
                        ? new float[channels]
                        : MemoryMarshal.Cast<byte, float>((await read(initializers[name], cancellation)).Span).ToArray();
                if (bias.Length != channels)
                    continue;
                for (var c = 0; c < channels && shifts is not null; c++)
                    bias[c] += shifts[value][c];
                while (use.Node.Input.Count < 3)
                    use.Node.Input.Add("");
                own[value] = use.Node.Input[2] = edit.AddConstant(main, value + "_b", ModelEdit.Tensor(bias, channels));
            }
        }
        return own;
    }

    private static bool TakesBias(WeightUse use) =>
        use is { Direct: true, Input: 1, Op: "Conv" or "Gemm" }
        && use.Scope is { Parent: null, Function: null }
        && (use.Op == "Conv" || use.FloatAttribute("beta", 1) == 1);
}
