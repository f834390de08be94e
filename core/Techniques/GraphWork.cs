using System.Buffers;
using System.Text.Json;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;
using Serverless.Core.Storage;

namespace Serverless.Core.Techniques;

/// <summary>Values that a graph step wants to have observed before it is applied.</summary>
/// <param name="Views">The values, each as its consumer sees it.</param>
/// <param name="Wanted">The statistics of them.</param>
/// <param name="Samples">Samples to observe them on, at most.</param>
public sealed record GraphNeeds(IReadOnlyList<InputView> Views, StatisticKinds Wanted, int Samples)
{
    /// <summary>Whether the step runs the model itself, on samples (<see cref="GraphWork.Trials"/>).</summary>
    public bool Tries { get; init; }

    /// <summary>Nothing.</summary>
    public static GraphNeeds None { get; } = new([], StatisticKinds.None, 0);

    /// <summary>Samples that the step runs the model on by itself.</summary>
    /// <param name="samples">How many, at most.</param>
    public static GraphNeeds ToTry(int samples) => new([], StatisticKinds.None, samples) { Tries = true };
}

/// <summary>A model that a graph step changes.</summary>
/// <param name="store">Where weights are read, and written.</param>
/// <param name="index">The model; its weights may be byte ranges of the store.</param>
/// <param name="etags">Versions of store paths; a path that is absent is read as it is.</param>
/// <param name="target">Store folder for what the step writes.</param>
public sealed class GraphWork(IArtifactStore store, ModelIndex index, IReadOnlyDictionary<string, string> etags, string target)
{
    private readonly ArrayBufferWriter<byte> kept = new();
    private int written,
        stored;

    private string KeptPath => $"{target}/weights.bin";

    private string Kept => ModelWriter.InStore(KeptPath);

    /// <summary>The model, to be changed in place.</summary>
    public ModelProto Model => index.Model;

    /// <summary>Whether the recipe has rules for single layers, by their names.</summary>
    public bool HasRules { get; init; }

    /// <summary>Why the recipe leaves a weight alone; null where it does not.</summary>
    public Func<Weight, string?> WhySkipped { get; init; } = _ => null;

    /// <summary>Layers that were coded and are not in the graph yet, by the name of their weight.</summary>
    public IReadOnlyDictionary<string, CodedLayer> Coded { get; init; } = new Dictionary<string, CodedLayer>();

    /// <summary>Runs of the model, for steps on coded layers; else null.</summary>
    public ModelRuns? Runs { get; init; }

    /// <summary>Runs of the model on samples, for steps that ask for them (<see cref="GraphNeeds.Tries"/>); else null.</summary>
    public ModelTrials? Trials { get; init; }

    /// <summary>Largest loss that the recipe grants the result (<see cref="OutputChange.Lost"/>); null for any.</summary>
    public double? MostLoss { get; init; }

    /// <summary>What the recipe's budget grants the result, in proportion to the original.</summary>
    public ModelLimits Limits { get; init; } = new();

    /// <summary>Layers that the step has made smaller, for the report.</summary>
    public List<ChangedLayer> Changed { get; } = [];

    /// <summary>Distributions of values that a batch normalization made, by value: steps keep them true.</summary>
    public Dictionary<string, ChannelDistribution> Normalized { get; init; } = [];

    /// <summary>Reads the statistics of one of the observed values; null where no sample reached it.</summary>
    public Func<int, CancellationToken, Task<InputStatistics>> ObservedAsync { get; init; } =
        (_, _) => throw new InvalidOperationException("Nothing was observed.");

    /// <summary>Figures of this step and those before for the report, by field.</summary>
    public Dictionary<string, JsonElement> Notes { get; init; } = new(StringComparer.Ordinal);

    /// <summary>A field of the report as an earlier step set it, or null.</summary>
    public T? Noted<T>(string field)
        where T : class => Noted<T>(Notes, field);

    /// <summary>A field of the report among those that steps have set, or null.</summary>
    public static T? Noted<T>(IReadOnlyDictionary<string, JsonElement> notes, string field)
        where T : class => notes.TryGetValue(field, out var figures) ? figures.Deserialize<T>(Json.Options) : null;

    /// <summary>Sets a field of the report.</summary>
    /// <param name="field">Its name in <c>report.json</c>.</param>
    /// <param name="figures">Its value.</param>
    public void Note<T>(string field, T figures) => Notes[field] = JsonSerializer.SerializeToElement(figures, Json.Options);

    /// <summary>
    /// A field that no step has set, for steps that a recipe may have several times: the name, or with a number behind it.
    /// </summary>
    /// <param name="name">The field of the first such step.</param>
    public string FreshField(string name)
    {
        var field = name;
        for (var step = 2; Notes.ContainsKey(field); step++)
            field = $"{name}{step}";
        return field;
    }

    /// <summary>Sentences that whoever uses the result should read first.</summary>
    public List<string> Warnings { get; } = [];

    /// <summary>Whether native code may run on the model here.</summary>
    public bool MayRunModel { get; init; }

    /// <summary>Says that the step is about to run native code on the model.</summary>
    /// <exception cref="ModelRunNeededException">That is not for this process: the host applies the step again in one where it
    /// is.</exception>
    public void RunsModel()
    {
        if (!MayRunModel)
            throw new ModelRunNeededException();
    }

    /// <summary>Reads a constant whole.</summary>
    public async Task<ReadOnlyMemory<byte>> ReadAsync(TensorProto tensor, CancellationToken cancellation)
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        if (reference.File is null)
            return TensorRef.InlineBytes(tensor);
        if (reference.File == Kept)
            return kept.WrittenMemory.Slice((int)reference.Offset, (int)reference.Length);
        return await DataOf(reference).BytesAsync(store, cancellation);
    }

    /// <summary>Opens a constant of floats, whose bytes lie in a file of the store, for reading in parts.</summary>
    public Task<WeightReader> OpenAsync(TensorProto tensor, CancellationToken cancellation) =>
        DataOf(TensorRef.From(tensor, tensor.Name)).OpenAsync(store, cancellation);

    /// <summary>Streams the bytes of a constant of any type.</summary>
    public async Task CopyToAsync(TensorProto tensor, Stream output, CancellationToken cancellation)
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        if (reference.File is null || reference.File == Kept)
        {
            await output.WriteAsync(await ReadAsync(tensor, cancellation), cancellation);
            return;
        }
        var data = DataOf(reference);
        await using var reader = await store.OpenAsync(data.Path, data.ETag, cancellation);
        await reader.CopyToAsync(data.Offset, data.Length, output, cancellation);
    }

    /// <summary>Gives a constant other bytes.</summary>
    public Task KeepAsync(TensorProto tensor, ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        TensorRef.Point(tensor, Kept, kept.WrittenCount, bytes.Length);
        kept.Write(bytes.Span);
        return Task.CompletedTask;
    }

    /// <summary>Streams constants into an object of the store.</summary>
    /// <param name="write">Writes them; may be called again when the store asks for it.</param>
    /// <param name="cancellation">Cancels the writing.</param>
    /// <returns>The location that a tensor names (<see cref="TensorRef.Point"/>).</returns>
    public async Task<string> WriteAsync(Func<Stream, CancellationToken, Task> write, CancellationToken cancellation)
    {
        var path = $"{target}/constants-{written++}.bin";
        await store.WriteAsync(path, write, cancellation);
        return ModelWriter.InStore(path);
    }

    /// <summary>Makes a byte range of the store of every weight that is still inline, and writes all constants that were kept.</summary>
    public async Task FinishAsync(CancellationToken cancellation)
    {
        foreach (var weight in Weight.Of(Model))
            if (weight.SkipReason is null && weight.Reference.File is null)
                await KeepAsync(weight.Tensor, TensorRef.InlineBytes(weight.Tensor), cancellation);
        await store.WriteBytesAsync(KeptPath, kept.WrittenMemory, cancellation);
    }

    /// <summary>Runs what the step may make of the model, and compares it with the model as the step found it.</summary>
    /// <param name="changed">The changed model: its constants inline, byte ranges of the store, or kept.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <param name="most">Samples to run them on, at most; 128 at most.</param>
    /// <returns>Null where the model takes no samples, or is too large to be run for each trial.</returns>
    /// <exception cref="ModelRunNeededException">Native code may not run on the model here.</exception>
    /// <exception cref="InvalidOperationException">The step did not ask for samples.</exception>
    public async Task<OutputChange?> TryAsync(ModelProto changed, CancellationToken cancellation, int most = int.MaxValue) =>
        await (await ReadyAsync(cancellation)).ChangeAsync(changed, most, cancellation);

    /// <summary>Times what the step may make of the model against the original, on one sample.</summary>
    /// <param name="changed">The changed model, as <see cref="TryAsync"/> takes it.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>Null where the model takes no samples, or is too large to be run for each trial.</returns>
    /// <exception cref="ModelRunNeededException">Native code may not run on the model here.</exception>
    /// <exception cref="InvalidOperationException">The step did not ask for samples.</exception>
    public async Task<ModelTime?> TimeAsync(ModelProto changed, CancellationToken cancellation) =>
        await (await ReadyAsync(cancellation)).TimeAsync(changed, cancellation);

    // Constants that were kept are there to be read.
    private async Task<ModelTrials> ReadyAsync(CancellationToken cancellation)
    {
        RunsModel();
        if (Trials is null)
            throw new InvalidOperationException("No samples were asked for.");
        if (kept.WrittenCount > stored)
            await store.WriteBytesAsync(KeptPath, kept.WrittenMemory, cancellation);
        stored = kept.WrittenCount;
        return Trials;
    }

    /// <summary>The model's own files in a local folder.</summary>
    public Task<LocalFolder> MaterializeAsync(CancellationToken cancellation) =>
        store.MaterializeAsync(index.Folder, index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag), cancellation);

    private WeightData DataOf(TensorRef reference) => WeightData.Of(reference, index.Folder, etags);
}

/// <summary>A layer whose weight a step on the model has changed.</summary>
/// <param name="Name">The weight's name.</param>
/// <param name="BytesBefore">Its bytes before.</param>
public sealed record ChangedLayer(string Name, long BytesBefore);

/// <summary>
/// What a recipe's budget grants, in proportion to the original; null where it says nothing, or later steps are to see to it.
/// </summary>
public sealed record ModelLimits
{
    /// <summary>Multiply-accumulates.</summary>
    public double? MacRatio { get; init; }

    /// <summary>Bytes.</summary>
    public double? SizeRatio { get; init; }

    /// <summary>Latency.</summary>
    public double? LatencyRatio { get; init; }

    /// <summary>Multiply-accumulates of the original.</summary>
    public long MultiplyAccumulates { get; init; }

    /// <summary>Multiply-accumulates of a state of the model by weight, at the inputs that those of the original are counted at.</summary>
    public Func<ModelProto, IReadOnlyDictionary<string, long>> CountAsOf { get; init; } = _ => new Dictionary<string, long>();

    /// <summary>Shapes of the values of a state's main graph, at the same inputs; null where one does not follow from them.</summary>
    public Func<ModelProto, Func<string, IReadOnlyList<long>?>> ShapesAsOf { get; init; } = _ => _ => null;
}

/// <summary>A step has to run native code on the model, and may not here.</summary>
public sealed class ModelRunNeededException : Exception;
