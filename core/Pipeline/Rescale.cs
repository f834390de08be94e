using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques.Scaling;

namespace Serverless.Core.Pipeline;

/// <summary>What was rescaled; kept for the report.</summary>
/// <param name="Equalized">Values whose channels were equalized between two layers.</param>
/// <param name="Smoothed">Values whose channels were smoothed by their activations.</param>
/// <param name="NotScaled">Layers whose inputs cannot be scaled, or that no sample reached.</param>
/// <param name="Inserted">Smoothed values that a Mul divides, put in before the layers.</param>
/// <param name="Unchanged">Values that are best as they are.</param>
public sealed record Rescaled(int Equalized, int Smoothed, int NotScaled, int Inserted, int Unchanged);

/// <summary>
/// Scales channels between layers before they are quantized, as the recipe asks: cross-layer equalization, then smoothing by
/// what was observed. The tidied graph with other weights takes the place of the tidied graph.
/// </summary>
public sealed class Rescale : Activity<PlanInput, Rescaled>
{
    private const long LargestEqualized = 16 << 20;
    private const double WorthANode = 0.8;

    /// <inheritdoc/>
    public override async Task<Rescaled> RunAsync(PlanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var from = PlanRescale.Before(request);
        var recipe = await Inspect.RecipeOf(store, from, cancellation);
        var model = ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunNames.Graph(from.Work), int.MaxValue, cancellation));
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunNames.Files(from.Work), cancellation);
        var constants = new ScaledConstants(store, StorePath.Parent(request.Model), etags);
        var (values, convolutions) = (ChannelScaling.Of(model), Convolutions());
        var normalized = await store.ReadJsonAsync<Dictionary<string, ChannelDistribution>>(RunNames.Normalized(from.Work), cancellation);
        var divided = new double[]?[values.Count];
        if (recipe.Find<EqualizationOptions>() is { } equalize)
        {
            var small = values
                .Where(v =>
                    v.FromLayer && v.Takers.Append(v.Makers[0]).All(t => t.Tensor.Dims.Aggregate(1L, (a, b) => a * b) <= LargestEqualized)
                )
                .ToList();
            var widest = new Dictionary<TensorProto, float[,]>(ReferenceEqualityComparer.Instance);
            foreach (var t in small.SelectMany(v => v.Takers.Append(v.Makers[0])))
                widest[t.Tensor] = widest.GetValueOrDefault(t.Tensor) ?? await constants.WidestAsync(t.Tensor, cancellation);
            var scales = Equalization.Solve(small, t => widest[t.Tensor], equalize);
            var solved = new Dictionary<ChannelScaling, double[]?>(ReferenceEqualityComparer.Instance);
            for (var i = 0; i < small.Count; i++)
                solved[small[i]] = scales[i];
            for (var i = 0; i < values.Count; i++)
                if (solved.TryGetValue(values[i], out var by))
                    Divide(values[i], divided[i] = by!);
        }
        var equalized = divided.Count(d => d is not null);
        var (smoothed, unchanged, inserted) = (0, 0, new List<(ChannelScaling Value, double[] Scales)>());
        if (recipe.Find<SmoothingOptions>() is { } smooth)
        {
            await using var observed = new ObservedStatistics(store, from.Work);
            for (var i = 0; i < values.Count; i++)
            {
                // Between layers the largest magnitude of a channel says little of most samples: rectified, it is silent in many.
                if (values[i].NeedsNode && !smooth.Insert || values[i].FromLayer && smooth.Strength is null)
                    continue;
                if ((await observed.ReadAsync(i, cancellation)).Channels is not { Count: > 0 } seen || seen.Channels != values[i].Channels)
                    continue;
                if (
                    await StrengthAsync(values[i], new SmoothingSearch(seen, divided[i]), constants, smooth.Strength, cancellation)
                    is not { } scales
                )
                {
                    (unchanged, divided[i]) = (unchanged + 1, divided[i] ?? []);
                    continue;
                }
                Divide(values[i], divided[i] = scales);
                if (values[i].NeedsNode)
                    inserted.Add((values[i], scales));
                smoothed++;
            }
        }
        Insert(model, inserted);
        await WriteAsync(store, request, model, constants, cancellation);
        await store.WriteJsonAsync(RunNames.Normalized(request.Work), normalized, cancellation);
        await store.WriteJsonAsync(RunNames.Files(request.Work), etags, cancellation);
        var layers = Weight.Of(model).Count(w => w.Uses.Any(u => u is { Op: "Conv" or "MatMul" or "Gemm", Input: 1 }));
        var rescaled = new Rescaled(
            equalized,
            smoothed,
            layers - values.Where((_, i) => divided[i] is not null).Sum(v => v.Takers.Count),
            inserted.Count,
            unchanged
        );
        await store.WriteJsonAsync(RunNames.Rescaled(request.Work), rescaled, cancellation);
        return rescaled;

        // The first convolution with each weight.
        Dictionary<string, NodeProto> Convolutions()
        {
            var first = new Dictionary<string, NodeProto>(StringComparer.Ordinal);
            foreach (var n in model.Graph.Node)
                if (n is { OpType: "Conv", Input.Count: > 1 })
                    first.TryAdd(n.Input[1], n);
            return first;
        }

        void Divide(ChannelScaling value, double[] by)
        {
            foreach (var maker in value.Makers)
                constants.Multiply(maker, c => 1 / by[c]);
            if (
                value.FromLayer
                && convolutions.GetValueOrDefault(value.Makers[0].Tensor.Name) is { } conv
                && normalized.TryGetValue(conv.Output[0], out var made)
            )
                normalized[conv.Output[0]] = made.DividedBy(by);
            foreach (var taker in value.Takers)
                constants.Multiply(taker, c => by[c]);
        }
    }

    // Null when the value is best as it is.
    private static async Task<double[]?> StrengthAsync(
        ChannelScaling value,
        SmoothingSearch search,
        ScaledConstants constants,
        double? strength,
        CancellationToken cancellation
    )
    {
        var layers = value.Takers.Select(t => (t.Tensor, Seen: search.Of(t))).ToList();
        foreach (var (tensor, seen) in layers)
            await EachAsync(tensor, seen.SeeChannels);
        // NaN and infinite weights have no scales.
        if (strength is { } given)
            return search.Scales(given) is var scales && scales.All(s => double.IsFinite(s) && s > 0) ? scales : null;
        foreach (var (tensor, seen) in layers)
        {
            await EachAsync(tensor, seen.SeeRows);
            seen.Add();
        }
        return search.Best(value.NeedsNode ? WorthANode : 1);

        Task EachAsync(TensorProto tensor, Action<long, ReadOnlySpan<float>> see) =>
            constants.ReadAsync(
                tensor,
                (first, floats) =>
                {
                    see(first, floats.Span);
                    return Task.CompletedTask;
                },
                cancellation
            );
    }

    private static void Insert(ModelProto model, List<(ChannelScaling Value, double[] Scales)> inserted)
    {
        if (inserted.Count == 0)
            return;
        var edit = new ModelEdit(model);
        var byInput = edit.Roots[0].Nodes.Where(n => n.Input.Count > 1).ToLookup(n => n.Input[0], StringComparer.Ordinal);
        using var batch = edit.Batch();
        foreach (var (value, scales) in inserted)
        {
            var by = edit.AddConstant(
                edit.Roots[0],
                value.Value + "_s",
                ModelEdit.Tensor([.. scales.Select(s => (float)(1 / s))], scales.Length)
            );
            var divided = edit.FreshName(value.Value + "_d");
            var takers = value.Takers.Select(t => t.Tensor.Name).ToHashSet(StringComparer.Ordinal);
            var products = byInput[value.Value].Where(n => takers.Contains(n.Input[1])).ToList();
            foreach (var p in products)
                p.Input[0] = divided;
            ModelEdit.Replace(edit.Roots[0], products[0], [ModelEdit.Node("Mul", [value.Value, by], [divided]), products[0]]);
        }
    }

    // The changed constants stream into one object, and the graph that points there is written last.
    private static async Task WriteAsync(
        IArtifactStore store,
        RunRequest request,
        ModelProto model,
        ScaledConstants constants,
        CancellationToken cancellation
    )
    {
        var path = $"{request.Work}/rescaled.bin";
        var places = new List<(TensorProto Tensor, long Offset, long Length)>();
        await store.WriteAsync(
            path,
            async (stream, token) =>
            {
                places.Clear();
                long at = 0;
                foreach (var tensor in constants.Changed)
                {
                    var start = at;
                    await constants.ReadAsync(
                        tensor,
                        async (_, floats) =>
                        {
                            var bytes = MemoryMarshal.AsBytes(floats.Span).ToArray();
                            await stream.WriteAsync(bytes, token);
                            at += bytes.Length;
                        },
                        token
                    );
                    places.Add((tensor, start, at - start));
                }
            },
            cancellation
        );
        foreach (var (tensor, offset, length) in places)
            TensorRef.Point(tensor, ModelWriter.InStore(path), offset, length);
        await store.WriteBytesAsync(RunNames.Graph(request.Work), model.ToByteArray(), cancellation);
    }
}
