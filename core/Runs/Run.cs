using System.Security.Cryptography;
using System.Text;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Recipes;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>A run to do.</summary>
/// <param name="Name">The drop's name.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Recipe">Store path of the recipe, or null for the default preset.</param>
/// <param name="Data">Store path of the data, or null.</param>
/// <param name="Work">Store folder for this run's intermediate objects.</param>
/// <param name="Shards">Store folder for compressed layers, shared by runs.</param>
/// <param name="Output">Store folder the result is published to.</param>
public sealed record RunRequest(string Name, string Model, string? Recipe, string? Data, string Work, string Shards, string Output)
{
    /// <summary>Where the versions are written down that the drop's parts must have, or null for any.</summary>
    public string? Snapshot { get; init; }

    /// <summary>Store folder of the result that this run follows, or null.</summary>
    public string? Predecessor { get; init; }

    /// <summary>Whether attempts are compared with the original; otherwise the result is published unrun.</summary>
    public bool Evaluates { get; init; } = true;

    /// <summary>Steps of the recipe that were carried out on the model's state.</summary>
    public int Stage { get; init; }

    /// <summary>Store folder of the model's state after these steps, and of the tasks and results of the chain that follows.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public string State => RunPaths.State(Work, Stage);
}

/// <summary>A run's result in short.</summary>
/// <param name="Status"><c>succeeded</c> or <c>over-budget</c>.</param>
/// <param name="Output">Store folder of the result.</param>
/// <param name="BytesBefore">Size of the model as dropped, external data included.</param>
/// <param name="BytesAfter">Size of the result.</param>
/// <param name="Cosine">Fidelity of the outputs.</param>
/// <param name="Loss">What the budget is about.</param>
public sealed record RunResult(string Status, string Output, long BytesBefore, long BytesAfter, double? Cosine, double? Loss)
{
    /// <summary>The status of a run that met its budget, or had none.</summary>
    public const string Succeeded = "succeeded";

    /// <summary>The status of a run whose best attempt is over its budget.</summary>
    public const string OverBudget = "over-budget";
}

/// <summary>What is done with one weight in one attempt.</summary>
/// <param name="Index">Position in the plan.</param>
/// <param name="Name">The weight.</param>
/// <param name="Node">The node that uses it first, or null.</param>
/// <param name="Op">The operators that use it.</param>
/// <param name="Dims">Its dimensions.</param>
/// <param name="Data">Where its values are.</param>
/// <param name="Shape">How they are viewed.</param>
/// <param name="Step">The technique and options, or null when the weight is left alone.</param>
/// <param name="Plan">What the technique will do.</param>
/// <param name="SkipReason">Why nothing is done, or null.</param>
public sealed record LayerTask(
    int Index,
    string Name,
    string? Node,
    string Op,
    long[] Dims,
    WeightData Data,
    LayerShape Shape,
    RecipeStep? Step,
    LayerPlan? Plan,
    string? SkipReason
)
{
    /// <summary>Steps of the chain before <see cref="Step"/>; each leaves dense weights.</summary>
    public IReadOnlyList<PlannedStep> Earlier { get; init; } = [];

    /// <summary>What its form is chosen by.</summary>
    public Store Store { get; init; }

    /// <summary>Whether zeros of the weight are pruned ones, from a step of an earlier chain.</summary>
    public bool Masked { get; init; }

    /// <summary>
    /// Operator set of the weight's scope, where what the chain makes is stored in the file: pruned layers then leave out their zeros. Null
    /// where other steps follow.
    /// </summary>
    public long? StoredOpset { get; init; }

    /// <summary>Whether codes of what the chain makes are coded at their entropy, where that is smaller.</summary>
    public bool IsEntropyCoded { get; init; }

    /// <summary>The steps of the chain in order; none when the weight is left alone.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public IEnumerable<PlannedStep> Chain => Step is null ? [] : Earlier.Append(new PlannedStep(Step, Plan!));

    /// <summary>The steps as reports name them.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public IEnumerable<string> Labels => Chain.Where(p => p.Step.Technique.InRecipes).Select(p => p.Step.Label);

    /// <summary>The observation of its input, or null.</summary>
    public int? Observation { get; init; }

    /// <summary>
    /// Which statistics of the observation are those of its input: 0 for the observed value's, k for those of the k-th output
    /// (<see cref="Runs.Observation.Outputs"/>).
    /// </summary>
    public int ObservedOutput { get; init; }

    /// <summary>Store folder of the state whose values were observed, or null.</summary>
    public string? State { get; init; }

    /// <summary>Chains to choose from, the strongest first; empty when nothing is to be chosen.</summary>
    public IReadOnlyList<LayerChoice> Choices { get; init; } = [];

    /// <summary>Steps of the chain that do nothing with the layer, each with the reason; none where a rule skips the layer.</summary>
    public IReadOnlyList<NotAppliedStep> NotApplied { get; init; } = [];

    /// <summary>Why its input is not observed although the technique wants it, or null.</summary>
    public string? NotObserved { get; init; }
}

/// <summary>A step that does nothing with a layer.</summary>
/// <param name="Step">The step, as reports name it.</param>
/// <param name="Reason">Why.</param>
public sealed record NotAppliedStep(string Step, string Reason);

/// <summary>A step for a layer.</summary>
/// <param name="Step">The technique and options.</param>
/// <param name="Plan">What it will do.</param>
public sealed record PlannedStep(RecipeStep Step, LayerPlan Plan);

/// <summary>A chain of steps that may be chosen for a layer.</summary>
/// <param name="Chain">The steps.</param>
/// <param name="Level">The gentler, the larger: the product of the levels of its steps.</param>
/// <param name="Reference">The level of the layer's reference choice.</param>
public sealed record LayerChoice(IReadOnlyList<PlannedStep> Chain, double Level, double Reference)
{
    /// <summary>The last step.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public PlannedStep Last => Chain[^1];

    /// <summary>The methods of the steps, as reports name them.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public string Label => string.Join(" + ", Chain.Select(p => p.Step.Label));

    /// <summary>The layer with this choice taken.</summary>
    public LayerTask Of(LayerTask task) => task with { Earlier = [.. Chain.SkipLast(1)], Step = Last.Step, Plan = Last.Plan };
}

/// <summary>What became of one weight.</summary>
/// <param name="Index">Position in the plan.</param>
/// <param name="Name">The weight.</param>
/// <param name="BytesBefore">Bytes before.</param>
/// <param name="BytesAfter">Bytes after.</param>
/// <param name="Bits">Bits a weight after, or those of its type when left alone.</param>
/// <param name="Error">Relative Frobenius error.</param>
/// <param name="Seconds">Time taken when it was compressed.</param>
/// <param name="Reused">Taken from an earlier run.</param>
/// <param name="Note">Why it was left alone, or null.</param>
public sealed record CompressedLayer(
    int Index,
    string Name,
    long BytesBefore,
    long BytesAfter,
    int Bits,
    double Error,
    double Seconds,
    bool Reused,
    string? Note
);

/// <summary>Ids and places of a run.</summary>
public static class RunPaths
{
    /// <summary>Containers, or folders, that every host has.</summary>
    public static readonly IReadOnlyList<string> Containers = ["drop", "work", "compressed", "failed"];

    // Bytes of UTF-8. Twice in a path, of which blob storage takes 1,024 characters; once in a file name, of 255 bytes.
    private const int LongestName = 120;
    private const string AgainPrefix = "again-",
        Forbidden = "/\\:#?";

    /// <summary>
    /// The drop's name (its first 120 bytes of UTF-8, whole characters) plus 12 hex digits of SHA-256 over its parts' paths and
    /// versions: the same drop is the same run.
    /// </summary>
    public static string Id(string name, IEnumerable<Artifact> parts)
    {
        var text = string.Join('\n', parts.OrderBy(p => p.Path, StringComparer.Ordinal).Select(p => $"{p.Path}|{p.ETag}"));
        // What an orchestration's id may not hold, and names that a path has another use for.
        name = string.Concat(StorePath.Cut(Printable.Plain(name, '-'), LongestName).Select(c => Forbidden.Contains(c) ? '-' : c));
        if (name.Trim('.').Length == 0)
            name = "model";
        return $"{name}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))[..12]}";
    }

    /// <summary>The drop's name in a run's id.</summary>
    public static string Name(string runId) => runId.LastIndexOf('-') is var i and > 0 ? runId[..i] : runId;

    /// <summary>Where the result of a run appears.</summary>
    public static string Output(string runId) => $"compressed/{Name(runId)}/{runId}";

    /// <summary>Where the failure of a run is written down.</summary>
    public static string Failure(string runId) => $"failed/{Name(runId)}/{runId}/error.json";

    /// <summary>The mark of a run that was cancelled: there while its activities end and its work is cleared.</summary>
    public static string Cancelled(string runId) => $"work/cancelled/{runId}";

    /// <summary>Where a host without messages looks for an event of a run.</summary>
    public static string Event(string work, string name) => $"{string.Join('/', work.Split('/').Take(2))}/events/{name}.json";

    /// <summary>The versions of the drop's parts when the run was asked for.</summary>
    public static string Snapshot(string work) => $"{work}/snapshot.json";

    /// <summary>The recipe as this run reads it.</summary>
    public static string Recipe(string work) => $"{work}/recipe.yaml";

    /// <summary>The versions of the files that this run reads.</summary>
    public static string Files(string work) => $"{work}/files.json";

    /// <summary>What a run of the original takes.</summary>
    public static string RunCost(string work) => $"{work}/cost.json";

    /// <summary>Writes a snapshot.</summary>
    public static Task WriteSnapshotAsync(IArtifactStore store, string work, IEnumerable<Artifact> parts, CancellationToken cancellation) =>
        store.WriteJsonAsync(Snapshot(work), parts.ToDictionary(p => p.Path, p => p.ETag), cancellation);

    /// <summary>Where the work is done again when some of it was damaged: <c>WORK/again-1</c>, then <c>WORK/again-2</c>.</summary>
    public static string Again(string work)
    {
        var (parent, last) = (StorePath.Parent(work), StorePath.Name(work));
        return last.StartsWith(AgainPrefix, StringComparison.Ordinal) && int.TryParse(last.AsSpan(AgainPrefix.Length), out var n)
            ? $"{parent}/{AgainPrefix}{n + 1}"
            : $"{work}/{AgainPrefix}1";
    }

    /// <summary>Folder of one attempt.</summary>
    public static string Attempt(string work, int attempt) => $"{work}/attempt-{attempt}";

    /// <summary>Folder of an attempt's tasks and results.</summary>
    public static string Layers(string work, int attempt) => $"{Attempt(work, attempt)}/layers";

    /// <summary>Which tasks an attempt has.</summary>
    public static string TaskList(string work, int attempt) => $"{Layers(work, attempt)}/tasks.json";

    /// <summary>Some tasks, from one on.</summary>
    public static string Tasks(string work, int attempt, string tasks, int from) => $"{Layers(work, attempt)}/{tasks}-{from:D6}.tasks.json";

    /// <summary>Some results, from one on.</summary>
    public static string Results(string work, int attempt, int from) => $"{Layers(work, attempt)}/{from:D6}.results.json";

    /// <summary>The assembled model's folder.</summary>
    public static string Assembled(string work, int attempt) => $"{Attempt(work, attempt)}/out";

    /// <summary>The files of the drop that hold weights, as they were when the run began.</summary>
    public static string ModelFiles(string work) => $"{work}/model.json";

    /// <summary>The state of the model after some steps of the recipe.</summary>
    public static string State(string work, int stage) => $"{work}/state-{stage:D2}";

    /// <summary>The graph of a state, without weights.</summary>
    public static string Graph(string state) => $"{state}/graph.pb";

    /// <summary>What the steps up to a state have found out and done.</summary>
    public static string Facts(string state) => $"{state}/facts.json";

    /// <summary>What was read of the weights of some layers, from one layer on.</summary>
    public static string Surveys(string state, int from) => $"{state}/surveys/{from:D6}.json";

    /// <summary>Values of a state that are observed, and on which samples.</summary>
    public static string Calibration(string state) => $"{state}/calibration/calibration.json";

    /// <summary>The model that is run to observe values: the state's graph with its weights.</summary>
    public static string CalibrationModel(string state) => $"{state}/calibration/model";

    /// <summary>Folder of the statistics of parts of the samples.</summary>
    public static string StatisticsParts(string state) => $"{state}/calibration/parts";

    /// <summary>Statistics of a part of the samples, all observations together.</summary>
    public static string StatisticsPart(string state, int shard) => $"{StatisticsParts(state)}/{shard:D6}.statistics";

    /// <summary>Statistics of all samples, of some observations together.</summary>
    public static string Statistics(string state, int observation) =>
        $"{state}/calibration/{observation / MergeStatistics.Most * MergeStatistics.Most:D6}.statistics";

    /// <summary>What each choice for some layers of a state costs, from one layer on.</summary>
    public static string Sensitivities(string state, int from) => $"{state}/allocation/{from:D6}.json";

    /// <summary>How the settings of layers were chosen for an attempt at a state.</summary>
    public static string Allocation(string state, int attempt) => $"{state}/allocation/choice-{attempt}.json";

    /// <summary>The state that steps on the coded model of an attempt left.</summary>
    public static string Coded(string state, int attempt) => $"{Attempt(state, attempt)}/coded";

    /// <summary>The facts of an attempt whose layers are in the graph.</summary>
    public static string Lowered(string state, int attempt) => $"{Attempt(state, attempt)}/facts.json";
}
