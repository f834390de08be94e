using Serverless.Core.Evaluation;
using Serverless.Core.Onnx;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Search;

namespace Serverless.Core.Pipeline;

/// <summary>Input of <see cref="MeasureLayers"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="From">The first layer.</param>
/// <param name="Count">How many.</param>
public sealed record MeasureInput(RunRequest Request, int From, int Count);

/// <summary>How many layers were measured.</summary>
public sealed record LayersMeasured(int Layers);

/// <summary>What each choice for a layer takes and costs.</summary>
/// <param name="Choices">Bytes and predicted loss, the squared relative error of the model's outputs, of each choice.</param>
/// <param name="Measured">Choices whose loss was measured; 0 when the model is too large to be run for each layer.</param>
public sealed record LayerSensitivity(IReadOnlyList<KnapsackChoice> Choices, int Measured);

/// <summary>
/// Compresses some layers in every way that may be chosen for them. How the ways compare is read from the error weighted by
/// the layer's input where it was observed, else from the weights' own error; what that means for the model is measured: the
/// change of its outputs when this layer alone is compressed.
/// </summary>
public sealed class MeasureLayers : Activity<MeasureInput, LayersMeasured>, IRunsModels
{
    /// <summary>Layers that one activity measures.</summary>
    public const int Most = 4;
    private const int Runs = 8, MeasuredBits = 4;

    /// <inheritdoc/>
    public override async Task<LayersMeasured> RunAsync(MeasureInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var tasks = new List<LayerTask>();
        for (var i = input.From; i < input.From + input.Count; i++) tasks.Add(await store.ReadJsonAsync<LayerTask>(RunNames.Task(request.Work, 0, i), cancellation));
        tasks.RemoveAll(t => t.Choices.Count == 0);
        using var original = await Bench.OpenAsync(store, request, cancellation);
        foreach (var task in tasks)
        {
            using var room = await context.Memory.EnterAsync(task.Plan!.WorkingBytes, cancellation);
            try
            {
                await store.WriteJsonAsync(RunNames.Sensitivity(request.Work, task.Index), await MeasureAsync(store, request, task, original, cancellation), cancellation);
            }
            catch (LayerRefusedException)
            {
                // Its choices are all the same then: left alone, which CompressLayer says in the report.
                await store.WriteJsonAsync(RunNames.Sensitivity(request.Work, task.Index), new LayerSensitivity([.. task.Choices.Select(c => new KnapsackChoice(task.Data.Length, 0))], 0), cancellation);
            }
        }
        return new LayersMeasured(tasks.Count);
    }

    private static async Task<LayerSensitivity> MeasureAsync(IArtifactStore store, RunRequest request, LayerTask task, Bench original, CancellationToken cancellation)
    {
        var made = new List<StoredLayer>();
        foreach (var choice in task.Choices)
            made.Add((await LayerShards.TakeAsync(store, request.Work, request.Shards, task with { Step = choice.Step, Plan = choice.Plan }, cancellation)).Stored);
        var weighted = made.All(m => m.Layer.OutputError is not null);
        var proxies = made.Select(m => weighted ? m.Layer.OutputError!.Value : m.Layer.RelativeError * m.Layer.RelativeError).ToList();
        // Losses of the narrow widths are measured one by one: they are too large to grow as squares do. Those of the wide
        // ones follow from the widest measured, and those of other groups from the same width.
        var scales = new SortedDictionary<int, double>();
        for (var i = 0; i < made.Count && original.Runs; i++)
        {
            var bits = made[i].Layer.BitsPerWeight;
            if (bits > MeasuredBits || scales.ContainsKey(bits)) continue;
            scales[bits] = proxies[i] > 0 ? await original.LossAsync(task.Name, made[i], cancellation) / proxies[i] : 0;
        }
        double Scale(int bits) => scales.Count == 0 ? 1 : scales.TryGetValue(bits, out var s) ? s : scales.Last().Value;
        return new LayerSensitivity([.. task.Choices.Select((c, i) => new KnapsackChoice(c.Plan.BytesAfter, proxies[i] * Scale(made[i].Layer.BitsPerWeight)))], scales.Count);
    }

    // The original on a few of the samples that techniques see, to compare with.
    private sealed class Bench : IDisposable
    {
        private readonly IArtifactStore store;
        private readonly RunRequest request;
        private readonly List<string> names = [];
        private ModelProto graph = new();
        private Dictionary<string, string> etags = [];
        private LocalFolder? folder;
        private IReadOnlyList<Sample> samples = [];
        private IReadOnlyList<RunOutputs> expected = [];

        private Bench(IArtifactStore store, RunRequest request) => (this.store, this.request) = (store, request);

        public bool Runs => expected.Count > 0;

        public static async Task<Bench> OpenAsync(IArtifactStore store, RunRequest request, CancellationToken cancellation)
        {
            var bench = new Bench(store, request);
            var index = await ModelIndexer.IndexAsync(store, $"{RunNames.CalibrationModel(request.Work)}/{ModelWriter.ModelName}", cancellation);
            if (index.Bytes > ModelRunner.WholeLimit) return bench;
            bench.graph = ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunNames.Graph(request.Work), int.MaxValue, cancellation));
            bench.etags = await store.ReadJsonAsync<Dictionary<string, string>>(RunNames.Files(request.Work), cancellation);
            bench.folder = await store.MaterializeAsync(index.Folder, index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag), cancellation);
            bench.names.AddRange(index.Model.Graph.Output.Select(o => o.Name));
            bench.samples = await CalibrateShard.SamplesAsync(store, request, 0, MeasureLayers.Runs, bench.folder.Path, index, cancellation);
            using var runner = new ModelRunner(bench.folder.Path, index);
            bench.expected = runner.Run(bench.samples, cancellation);
            return bench;
        }

        public async Task<double> LossAsync(string layer, StoredLayer stored, CancellationToken cancellation)
        {
            var model = graph.Clone();
            Forms.Apply(new ModelEdit(model), Weight.Of(model).First(w => w.Name == layer), stored.Layer, stored.Shard);
            var target = $"{request.Work}/trials/{Guid.NewGuid():N}";
            await ModelWriter.WriteAsync(store, model, StorePath.Parent(request.Model), etags, target, ModelWriter.ProtobufLimit, cancellation);
            var index = await ModelIndexer.IndexAsync(store, $"{target}/{ModelWriter.ModelName}", cancellation);
            using (var place = await store.MaterializeAsync(target, index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag), cancellation))
            using (var runner = new ModelRunner(place.Path, index))
            {
                var fidelity = new Fidelity();
                foreach (var (before, after) in expected.Zip(runner.Run(samples, cancellation))) fidelity.Add(names, before.Outputs, after.Outputs, null);
                foreach (var file in index.Files.Values) await store.DeleteAsync(file.Path, cancellation);
                return fidelity.RelativeError * fidelity.RelativeError;
            }
        }

        public void Dispose() => folder?.Dispose();
    }
}
