using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Activations;
using Serverless.Core.Techniques.BiasCorrection;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Runs;

/// <summary>The graph of an attempt with its compressed layers in place, weights still where they were made.</summary>
/// <param name="Model">The graph.</param>
/// <param name="Folder">Store folder that plain locations are relative to.</param>
/// <param name="ETags">Versions of store paths.</param>
/// <param name="Parameters">Weights of the model.</param>
/// <param name="Nonzero">Those that are not zero after decoding.</param>
/// <param name="Floats">Layers planned for integer kernels that stay in float, and why.</param>
/// <param name="Biases">Value of a layer with a bias of its own → the bias.</param>
internal sealed record AssembledGraph(
    ModelProto Model,
    string Folder,
    Dictionary<string, string> ETags,
    long Parameters,
    long Nonzero,
    IReadOnlyDictionary<string, string> Floats,
    IReadOnlyDictionary<string, BiasPlace> Biases
)
{
    // Half of the largest: what was not calibrated on may be larger.
    private const float NearLargestHalf = 32752;

    /// <summary>Assembles.</summary>
    /// <param name="store">Where everything is.</param>
    /// <param name="request">The run.</param>
    /// <param name="attempt">The attempt.</param>
    /// <param name="corrections">What to add to the biases of layers: value → bias, which becomes its own; empty to give every compressed
    /// Conv and Gemm one of its own. Null to leave them.</param>
    /// <param name="calibrated">Whether values were observed; null where that is not known.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static async Task<AssembledGraph> BuildAsync(
        IArtifactStore store,
        RunRequest request,
        int attempt,
        IReadOnlyDictionary<string, float[]>? corrections,
        bool? calibrated,
        CancellationToken cancellation
    )
    {
        var model = await ModelState.GraphAsync(store, request, cancellation);
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation);
        var tasks = await LayerRecords.TasksAsync(store, request.State, attempt, cancellation);
        var results = (await LayerRecords.ResultsAsync(store, request.State, attempt, tasks, cancellation))
            .Where(r => r.Stored is not null)
            .ToDictionary(r => r.Figures.Name, r => r.Stored!, StringComparer.Ordinal);
        var edit = new ModelEdit(model);
        var folder = StorePath.Parent(request.Model);
        long parameters = 0,
            nonzero = 0;
        var halfCompute = results.Values.Any(r => r.Layer.HalfCompute);
        var weights = Weight.Of(model);
        var rounded = weights
            .Select(w => (Weight: w, results.GetValueOrDefault(w.Name)?.Layer.Activation))
            .Where(w => w.Activation is not null)
            .Select(w => (w.Weight, w.Activation!))
            .ToList();
        var extremes = new ActivationRounding(RangeMethod.Minmax, 100);
        var scales =
            rounded.Count == 0 && !halfCompute
                ? new Dictionary<string, ObservedValue>()
                : await ActivationScales.ReadAsync(
                    store,
                    request.State,
                    model,
                    rounded.Count == 0 ? _ => extremes : ActivationScales.Roundings(rounded),
                    calibrated,
                    cancellation
                );
        var integers = new QdqGraph(edit, v => scales.TryGetValue(v, out var s) ? s : null, Read);
        var dynamic = new DynamicForm(edit);
        var own = corrections is null
            ? []
            : await OwnBiasesAsync(edit, weights.Where(w => results.ContainsKey(w.Name)), corrections, Read, cancellation);
        using var batch = edit.Batch(weights.Select(w => ModelEdit.Outermost(w.Scope)).Distinct());
        foreach (var weight in weights)
        {
            parameters += weight.Reference.Elements;
            if (results.TryGetValue(weight.Name, out var stored))
            {
                nonzero += stored.Layer.Nonzero;
                // Repeated, reassembling finds what it noted before and decides the same again.
                if (stored.Layer.Activation is not null)
                    integers.Add(
                        weight,
                        stored.Layer with
                        {
                            Form = StorageForm.Qdq,
                        },
                        stored.Shard,
                        await ScalesAsync(store, stored, cancellation)
                    );
                else if (stored.Layer.Form == StorageForm.Dynamic)
                    dynamic.Apply(weight, stored.Layer, stored.Shard);
                else
                    Form.Apply(edit, weight, stored.Layer, stored.Shard);
            }
            else
                nonzero += await NonzeroAsync(store, weight, folder, etags, cancellation);
        }
        dynamic.Finish();
        batch.Dispose();
        var floats = await integers.ApplyAsync(cancellation);
        // Biases that were replaced; with fresh scopes, since other edits are known to theirs alone.
        if (own.Count > 0)
            new ModelEdit(model).DropDead(cancellation);
        if (halfCompute)
        {
            // Layers that are not to compute so: skipped, or treated otherwise. Those too small to store so compute with the rest.
            var small = tasks
                .Where(t => t.SkipReason?.StartsWith(LayerTasks.TooSmall, StringComparison.Ordinal) == true)
                .Select(t => t.Name)
                .ToHashSet(StringComparer.Ordinal);
            var others = weights
                .Where(w => results.GetValueOrDefault(w.Name)?.Layer.HalfCompute != true && !small.Contains(w.Name))
                .SelectMany(w => w.Uses)
                .Where(u => u.Op is "Conv" or "ConvTranspose" or "MatMul" or "Gemm")
                .SelectMany(u => u.Node.Output)
                .ToHashSet(StringComparer.Ordinal);
            new Float16Conversion(
                edit,
                v => others.Contains(v) || scales.TryGetValue(v, out var s) && s.Scale.Scale * byte.MaxValue > NearLargestHalf
            ).Apply(cancellation);
        }
        return new AssembledGraph(
            model,
            folder,
            etags,
            parameters,
            nonzero,
            floats,
            own.ToDictionary(o => o.Key, o => integers.Biases.GetValueOrDefault(o.Value) ?? new BiasPlace(o.Value, null))
        );

        Task<ReadOnlyMemory<byte>> Read(TensorProto tensor, CancellationToken token) => BytesAsync(store, tensor, folder, etags, token);
    }

    // Biases may be shared by layers, or missing.
    private static async Task<Dictionary<string, string>> OwnBiasesAsync(
        ModelEdit edit,
        IEnumerable<Weight> weights,
        IReadOnlyDictionary<string, float[]> corrections,
        Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> read,
        CancellationToken cancellation
    )
    {
        var (own, main) = (new Dictionary<string, string>(StringComparer.Ordinal), edit.Roots[0]);
        var initializers = main.Constants.ToDictionary(t => t.Name, StringComparer.Ordinal);
        foreach (var weight in weights.Where(w => w.Type == (int)DataType.Float))
        {
            foreach (
                var use in weight.Uses.Where(u =>
                    u is { Direct: true, Input: 1, Op: "Conv" or "Gemm" } && u.Scope.Parent is null && u.Scope.Function is null
                )
            )
            {
                if (use.Op == "Gemm" && use.FloatAttribute("beta", 1) != 1)
                    continue;
                if (corrections.Count > 0 && !corrections.ContainsKey(use.Node.Output[0]))
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
                if (corrections.TryGetValue(use.Node.Output[0], out var by))
                    for (var c = 0; c < channels; c++)
                        bias[c] += by[c];
                while (use.Node.Input.Count < 3)
                    use.Node.Input.Add("");
                own[use.Node.Output[0]] = use.Node.Input[2] = edit.AddConstant(
                    main,
                    use.Node.Output[0] + "_b",
                    ModelEdit.Tensor(bias, channels)
                );
            }
        }
        return own;
    }

    private static async Task<float[]> ScalesAsync(IArtifactStore store, StoredLayer stored, CancellationToken cancellation)
    {
        await using var reader = await store.OpenAsync(stored.Shard, null, cancellation);
        var scales = new float[stored.Layer.Scales.Length / 4];
        var bytes = new byte[stored.Layer.Scales.Length];
        await reader.ReadAsync(stored.Layer.Scales.Offset, bytes, cancellation);
        Buffer.BlockCopy(bytes, 0, scales, 0, bytes.Length);
        return scales;
    }

    private static async Task<ReadOnlyMemory<byte>> BytesAsync(
        IArtifactStore store,
        TensorProto tensor,
        string folder,
        Dictionary<string, string> etags,
        CancellationToken cancellation
    )
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        if (reference.File is not { } file)
            return TensorRef.InlineBytes(tensor);
        var path = ModelWriter.Resolve(folder, file);
        await using var reader = await store.OpenAsync(path, etags.GetValueOrDefault(path), cancellation);
        var bytes = new byte[reference.Length];
        await reader.ReadAsync(reference.Offset, bytes, cancellation);
        return bytes;
    }

    private static async Task<long> NonzeroAsync(
        IArtifactStore store,
        Weight weight,
        string folder,
        Dictionary<string, string> etags,
        CancellationToken cancellation
    )
    {
        var reference = weight.Reference;
        if (reference.File is not { } file)
        {
            var floats = new float[reference.Elements];
            FloatConversion.ToFloat(TensorRef.InlineBytes(weight.Tensor).Span, reference.DataType, floats);
            return floats.Length - floats.AsSpan().Count(0f);
        }
        var path = ModelWriter.Resolve(folder, file);
        var data = new WeightData(path, etags.GetValueOrDefault(path), reference.Offset, reference.Length, reference.DataType);
        await using var reader = await data.OpenAsync(store, cancellation);
        long nonzero = 0;
        await reader.EachAsync((_, part) => nonzero += part.Length - part.Count(0f), cancellation);
        return nonzero;
    }
}
