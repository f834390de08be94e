using System.Buffers;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Calibration;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Pipeline;

/// <summary>What was rescaled; kept for the report.</summary>
/// <param name="Equalized">Values whose channels were equalized between two layers.</param>
/// <param name="Smoothed">Values whose channels were smoothed by their activations.</param>
/// <param name="NotScaled">Inputs of layers that cannot be scaled where they are made, or that no sample reached.</param>
public sealed record Rescaled(int Equalized, int Smoothed, int NotScaled);

/// <summary>
/// Scales channels between layers before they are quantized, as the recipe asks: cross-layer equalization, then smoothing by
/// what was observed. The tidied graph with other weights takes the place of the tidied graph.
/// </summary>
public sealed class Rescale : Activity<PlanInput, Rescaled>
{
    private const long LargestEqualized = 16 << 20;
    private const int Chunk = 1 << 18;

    /// <inheritdoc/>
    public override async Task<Rescaled> RunAsync(PlanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var from = PlanRescale.Before(request);
        var recipe = await Inspect.RecipeOf(store, from, cancellation);
        var model = ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunNames.Graph(from.Work), int.MaxValue, cancellation));
        var etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunNames.Files(from.Work), cancellation);
        var source = new Source(store, StorePath.Parent(request.Model), etags);
        var values = ChannelScaling.Of(model);
        var factors = new Dictionary<TensorProto, Dictionary<int, double[]>>(ReferenceEqualityComparer.Instance);
        var normalized = await store.ReadJsonAsync<Dictionary<string, ChannelDistribution>>(RunNames.Normalized(from.Work), cancellation);
        var (equalized, smoothed) = (0, 0);
        var divided = new double[]?[values.Count];
        if (recipe.Whole.Equalize is { } equalize)
        {
            var small = values.Where(v => v.FromLayer && v.Takers.Append(v.Makers[0]).All(t => t.Tensor.Dims.Aggregate(1L, (a, b) => a * b) <= LargestEqualized)).ToList();
            var widest = new Dictionary<TensorProto, float[,]>(ReferenceEqualityComparer.Instance);
            foreach (var t in small.SelectMany(v => v.Takers.Append(v.Makers[0]))) widest[t.Tensor] = widest.GetValueOrDefault(t.Tensor) ?? await source.WidestAsync(t.Tensor, cancellation);
            var scales = Equalization.Solve(small, t => widest[t.Tensor], equalize);
            for (var i = 0; i < small.Count; i++) Divide(small[i], scales[i]!);
            for (var i = 0; i < values.Count; i++) divided[i] = small.IndexOf(values[i]) is var at and >= 0 ? scales[at] : null;
            equalized = small.Count;
        }
        if (recipe.Whole.Smooth is { } smooth)
        {
            for (var i = 0; i < values.Count; i++)
            {
                await using var reader = await store.OpenAsync(RunNames.Statistics(from.Work, i), null, cancellation);
                var weights = new double[values[i].Channels];
                foreach (var t in values[i].Takers)
                {
                    var most = await source.WidestAsync(t, Of(t.Tensor, 0), Of(t.Tensor, 1), cancellation);
                    for (var c = 0; c < weights.Length; c++) weights[c] = Math.Max(weights[c], most[c]);
                }
                if (Smoothing.Scales((await StatisticsFile.ReadAsync(reader, cancellation)).Channels, divided[i], weights, smooth.Strength) is not { } scales) continue;
                Divide(values[i], scales);
                smoothed++;
            }
        }
        await WriteAsync(store, request, model, source, factors, cancellation);
        await store.WriteJsonAsync(RunNames.Normalized(request.Work), normalized, cancellation);
        await store.WriteJsonAsync(RunNames.Files(request.Work), etags, cancellation);
        var layers = Weight.Of(model).Count(w => w.Uses.Any(u => u is { Op: "Conv" or "MatMul" or "Gemm", Input: 1 }));
        var rescaled = new Rescaled(equalized, smoothed, layers - values.Sum(v => v.Takers.Count));
        await store.WriteJsonAsync(RunNames.Rescaled(request.Work), rescaled, cancellation);
        return rescaled;

        double[]? Of(TensorProto tensor, int axis) => factors.GetValueOrDefault(tensor)?.GetValueOrDefault(axis);

        void Divide(ChannelScaling value, double[] by)
        {
            foreach (var maker in value.Makers) Multiply(maker, c => 1 / by[c]);
            if (value.FromLayer && model.Graph.Node.FirstOrDefault(n => n is { OpType: "Conv", Input.Count: > 1 } && n.Input[1] == value.Makers[0].Tensor.Name) is { } conv && normalized.TryGetValue(conv.Output[0], out var made))
                normalized[conv.Output[0]] = made.DividedBy(by);
            foreach (var taker in value.Takers) Multiply(taker, c => by[c]);
        }

        void Multiply(ChannelConstant constant, Func<int, double> by)
        {
            if (!factors.TryGetValue(constant.Tensor, out var axes)) factors[constant.Tensor] = axes = [];
            if (!axes.TryGetValue(constant.Axis, out var f)) axes[constant.Axis] = f = Enumerable.Repeat(1.0, (int)constant.Tensor.Dims[constant.Axis]).ToArray();
            for (var c = 0; c < f.Length; c++) f[c] *= by(c);
        }
    }

    // The changed constants stream into one object, and the graph that points there is written last.
    private static async Task WriteAsync(
        IArtifactStore store, RunRequest request, ModelProto model, Source source, Dictionary<TensorProto, Dictionary<int, double[]>> factors, CancellationToken cancellation)
    {
        var path = $"{request.Work}/rescaled.bin";
        var places = new List<(TensorProto Tensor, long Offset, long Length)>();
        await store.WriteAsync(path, async (stream, token) =>
        {
            places.Clear();
            long at = 0;
            foreach (var (tensor, axes) in factors)
            {
                var (rows, columns) = (axes.GetValueOrDefault(0), axes.GetValueOrDefault(1));
                var start = at;
                await source.ReadAsync(tensor, async (first, floats) =>
                {
                    Scale(tensor, floats.Span, first, rows, columns);
                    var bytes = MemoryMarshal.AsBytes(floats.Span).ToArray();
                    await stream.WriteAsync(bytes, token);
                    at += bytes.Length;
                }, token);
                places.Add((tensor, start, at - start));
            }
        }, cancellation);
        foreach (var (tensor, offset, length) in places) TensorRef.Point(tensor, ModelWriter.InStore(path), offset, length);
        await store.WriteBytesAsync(RunNames.Graph(request.Work), model.ToByteArray(), cancellation);
    }

    private static void Scale(TensorProto tensor, Span<float> floats, long first, double[]? rows, double[]? columns)
    {
        var (inner, width) = Layout(tensor);
        for (var i = 0; i < floats.Length; i++)
        {
            var (row, column) = Math.DivRem((first + i) / inner, width);
            floats[i] = (float)(floats[i] * (rows?[row] ?? 1) * (columns?[column] ?? 1));
        }
    }

    // Elements behind the second axis, and the length of that axis.
    private static (long Inner, long Width) Layout(TensorProto tensor) =>
        (tensor.Dims.Skip(2).Aggregate(1L, (a, b) => a * b), tensor.Dims.Count > 1 ? tensor.Dims[1] : 1);

    private sealed class Source(IArtifactStore store, string folder, Dictionary<string, string> etags)
    {
        public async Task ReadAsync(TensorProto tensor, Func<long, Memory<float>, Task> take, CancellationToken cancellation)
        {
            var reference = TensorRef.From(tensor, tensor.Name);
            if (reference.File is not { } file)
            {
                await take(0, MemoryMarshal.Cast<byte, float>(TensorRef.InlineBytes(tensor).Span).ToArray());
                return;
            }
            var path = ModelWriter.Resolve(folder, file);
            await using var reader = await new WeightData(path, etags.GetValueOrDefault(path), reference.Offset, reference.Length, reference.DataType).OpenAsync(store, cancellation);
            var floats = ArrayPool<float>.Shared.Rent(Chunk);
            try
            {
                for (long at = 0; at < reader.Elements; at += Chunk)
                {
                    var part = floats.AsMemory(0, (int)Math.Min(Chunk, reader.Elements - at));
                    await reader.ReadAsync(at, part, cancellation);
                    await take(at, part);
                }
            }
            finally
            {
                ArrayPool<float>.Shared.Return(floats);
            }
        }

        public async Task<float[,]> WidestAsync(TensorProto tensor, CancellationToken cancellation)
        {
            var (inner, width) = Layout(tensor);
            var most = new float[tensor.Dims[0], width];
            await ReadAsync(tensor, (first, floats) =>
            {
                for (var i = 0; i < floats.Length; i++)
                {
                    var (row, column) = Math.DivRem((first + i) / inner, width);
                    most[row, column] = Math.Max(most[row, column], MathF.Abs(floats.Span[i]));
                }
                return Task.CompletedTask;
            }, cancellation);
            return most;
        }

        public async Task<double[]> WidestAsync(ChannelConstant constant, double[]? rows, double[]? columns, CancellationToken cancellation)
        {
            var (inner, width) = Layout(constant.Tensor);
            var most = new double[constant.Tensor.Dims[constant.Axis]];
            await ReadAsync(constant.Tensor, (first, floats) =>
            {
                Scale(constant.Tensor, floats.Span, first, rows, columns);
                for (var i = 0; i < floats.Length; i++)
                {
                    var (row, column) = Math.DivRem((first + i) / inner, width);
                    var at = constant.Axis == 0 ? row : column;
                    most[at] = Math.Max(most[at], Math.Abs(floats.Span[i]));
                }
                return Task.CompletedTask;
            }, cancellation);
            return most;
        }
    }
}
