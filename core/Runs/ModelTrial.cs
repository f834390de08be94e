using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>What compressed layers make of a model's outputs.</summary>
/// <param name="Outputs">Squared relative error of the worst output.</param>
/// <param name="Scores">Squared relative errors of the scores behind the outputs (<see cref="FinalScores"/>), summed.</param>
public readonly record struct TrialLoss(double Outputs, double Scores)
{
    /// <summary>Both, in units of the outputs' error.</summary>
    /// <param name="scale">Outputs' error per unit of the scores'.</param>
    public double Together(double scale) => scale > 0 ? (Outputs + scale * Scores) / 2 : Outputs;
}

/// <summary>
/// The original on a few of the samples that techniques see, and models with some of its layers compressed to compare with it.
/// </summary>
internal sealed class ModelTrial : IDisposable
{
    /// <summary>Runs that choices are compared on, at most.</summary>
    public const int MostRuns = 128;
    private const long MostBytes = 64 << 20;
    private const int LeastRuns = 8,
        TimesOfModel = 4;
    private readonly IArtifactStore store;
    private readonly RunRequest request;
    private readonly ModelProto graph;
    private readonly Dictionary<string, string> etags;
    private LocalFolder? folder;
    private List<string> outputs = [];
    private IReadOnlyList<FinalScore> scores = [];
    private IReadOnlyList<Sample> samples = [];
    private readonly List<RunOutputs> expected = [];

    private ModelTrial(IArtifactStore store, RunRequest request, ModelProto graph, Dictionary<string, string> etags) =>
        (this.store, this.request, this.graph, this.etags) = (store, request, graph, etags);

    /// <summary>False when the model is too large to be run for each trial, or there is nothing to run it on.</summary>
    public bool Runs => expected.Count > 0;

    /// <summary>Memory that a trial takes, roughly: the model as it is read, its weights, and these as ONNX Runtime packs them.</summary>
    public long RunningBytes { get; private set; }

    /// <summary>Runs the original.</summary>
    /// <param name="store">The store.</param>
    /// <param name="request">The run.</param>
    /// <param name="mostRuns">Runs at most.</param>
    /// <param name="decisions">Rows of the first output that are enough: fewer runs, but at least 8, hold them.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    public static async Task<ModelTrial> OpenAsync(
        IArtifactStore store,
        RunRequest request,
        int mostRuns,
        int decisions,
        CancellationToken cancellation
    )
    {
        var graph = await ModelState.GraphAsync(store, request, cancellation);
        var trial = new ModelTrial(
            store,
            request,
            graph,
            await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation)
        );
        var index = await ModelIndexer.IndexAsync(
            store,
            $"{RunPaths.CalibrationModel(request.State)}/{ModelWriter.ModelName}",
            cancellation
        );
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(request.State), cancellation);
        if (index.Bytes > ModelRunner.WholeLimit || calibration.Runs == 0)
            return trial;
        trial.RunningBytes = TimesOfModel * index.Bytes;
        trial.folder = await store.MaterializeAsync(
            index.Folder,
            index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag),
            cancellation
        );
        trial.outputs = [.. graph.Graph.Output.Select(o => o.Name)];
        trial.scores = FinalScores.Of(graph);
        Task<IReadOnlyList<Sample>> Samples(int count) =>
            CalibrateShard.SamplesAsync(store, request, 0, Math.Min(count, calibration.Runs), trial.folder.Path, index, cancellation);
        var fidelity = new Fidelity();
        var first = await Samples(1);
        await trial.RunAsync(graph.Clone(), first, run => fidelity.Add(trial.outputs, run.Outputs, run.Outputs, null), cancellation);
        var most = Math.Min(mostRuns, MostBytes / Math.Max(1, first.Sum(s => s.Inputs.Values.Sum(v => (long)v.Bytes.Length))));
        trial.samples = await Samples((int)Math.Clamp(decisions / Math.Max(1, fidelity.Rows), LeastRuns, Math.Max(LeastRuns, most)));
        await trial.RunAsync(graph.Clone(), trial.samples, trial.expected.Add, cancellation);
        return trial;
    }

    /// <summary>What another model of the same outputs makes of them.</summary>
    /// <param name="changed">The model; its weights may be byte ranges of the store.</param>
    /// <param name="source">Where the samples come from (<see cref="ComparisonResult.Source"/>).</param>
    /// <param name="most">Samples to compare on, at most.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    public async Task<OutputChange> ChangeAsync(ModelProto changed, string source, int most, CancellationToken cancellation)
    {
        var fidelity = new Fidelity();
        var loss = await LossAsync(
            changed.Clone(),
            [.. samples.Take(most)],
            (i, actual) => fidelity.Add(outputs, expected[i].Outputs, actual.Outputs, samples[i].Labels, samples[i].Group),
            cancellation
        );
        var figures = ComparisonResult.Of(source, Math.Min(most, samples.Count), fidelity, null);
        return new OutputChange(Math.Sqrt(loss.Outputs), fidelity.Cosine, figures.Loss.Loss)
        {
            Scores = double.IsNaN(loss.Scores) ? null : Math.Sqrt(loss.Scores),
        };
    }

    /// <summary>The loss of the model with some layers compressed.</summary>
    /// <param name="layers">Names of the layers and their encodings.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    public async Task<TrialLoss> LossAsync(IReadOnlyList<(string Name, StoredLayer Stored)> layers, CancellationToken cancellation)
    {
        var model = graph.Clone();
        StoredLayers.Put(model, layers);
        return await LossAsync(model, samples, null, cancellation);
    }

    // Of scores that the model does not compute, NaN.
    private async Task<TrialLoss> LossAsync(
        ModelProto model,
        IReadOnlyList<Sample> runs,
        Action<int, RunOutputs>? see,
        CancellationToken cancellation
    )
    {
        var errors = outputs.Select(o => new ValueError(o, null)).Concat(scores.Select(f => new ValueError(f.Value, f.Softmax))).ToList();
        var i = 0;
        await RunAsync(
            model,
            runs,
            actual =>
            {
                foreach (var e in errors)
                    if (actual.Outputs.TryGetValue(e.Value, out var value))
                        e.Add(expected[i].Outputs[e.Value], value);
                    else
                        e.IsLost = true;
                see?.Invoke(i, actual);
                i++;
            },
            cancellation
        );
        return new TrialLoss(
            errors.Take(outputs.Count).Select(e => e.Relative).DefaultIfEmpty(0).Max(),
            errors.Skip(outputs.Count).Sum(e => e.IsLost ? double.NaN : e.Relative)
        );
    }

    /// <inheritdoc/>
    public void Dispose() => folder?.Dispose();

    // One sample's outputs are in memory at a time.
    private async Task RunAsync(ModelProto model, IReadOnlyList<Sample> runs, Action<RunOutputs> take, CancellationToken cancellation)
    {
        if (runs.Count == 0)
            return;
        var made = model.Graph.Node.SelectMany(n => n.Output).ToHashSet(StringComparer.Ordinal);
        foreach (var s in scores)
            if (!outputs.Contains(s.Value) && made.Contains(s.Value))
                model.Graph.Output.Add(new ValueInfoProto { Name = s.Value });
        var target = $"{request.Work}/trials/{Guid.NewGuid():N}";
        await using var written = await WrittenModel.WriteAsync(
            store,
            model,
            StorePath.Parent(request.Model),
            etags,
            target,
            ModelWriter.ProtobufLimit,
            cancellation
        );
        using var runner = new ModelRunner(written.Folder, written.Index);
        foreach (var sample in runs)
            take(runner.Run([sample], cancellation)[0]);
    }
}
