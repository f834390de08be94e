using System.Text.Json;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>The model between two steps of a recipe: a graph whose weights are byte ranges of the store, and facts about it.</summary>
/// <param name="Index">The graph, and the files of the drop.</param>
/// <param name="ETags">Versions of the drop's files.</param>
/// <param name="Facts">What steps have found out and done.</param>
internal sealed record ModelState(ModelIndex Index, Dictionary<string, string> ETags, StateFacts Facts)
{
    /// <summary>Reads the state that a run is at.</summary>
    public static Task<ModelState> ReadAsync(IArtifactStore store, RunRequest request, CancellationToken cancellation) =>
        ReadAsync(store, request, request.State, cancellation);

    /// <summary>Reads a state of a run.</summary>
    /// <param name="store">The store.</param>
    /// <param name="request">The run.</param>
    /// <param name="folder">Store folder of the state.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<ModelState> ReadAsync(IArtifactStore store, RunRequest request, string folder, CancellationToken cancellation)
    {
        var graph = await GraphAsync(store, folder, cancellation);
        var files = await store.ReadJsonAsync<Dictionary<string, Artifact>>(RunPaths.ModelFiles(request.Work), cancellation);
        return new ModelState(
            new ModelIndex(request.Model, graph, files),
            await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation),
            await store.ReadJsonAsync<StateFacts>(RunPaths.Facts(folder), cancellation)
        );
    }

    /// <summary>Reads the graph alone.</summary>
    public static Task<ModelProto> GraphAsync(IArtifactStore store, RunRequest request, CancellationToken cancellation) =>
        GraphAsync(store, request.State, cancellation);

    private static async Task<ModelProto> GraphAsync(IArtifactStore store, string folder, CancellationToken cancellation) =>
        ModelProto.Parser.ParseFrom(await store.ReadBytesAsync(RunPaths.Graph(folder), int.MaxValue, cancellation));

    /// <summary>Writes it as the state that a run is at.</summary>
    public Task WriteAsync(IArtifactStore store, RunRequest request, CancellationToken cancellation) =>
        WriteAsync(store, request.State, cancellation);

    /// <summary>Writes it as a state of a run.</summary>
    public async Task WriteAsync(IArtifactStore store, string folder, CancellationToken cancellation)
    {
        await store.WriteJsonAsync(RunPaths.Facts(folder), Facts, cancellation);
        await store.WriteBytesAsync(RunPaths.Graph(folder), Index.Model.ToByteArray(), cancellation);
    }
}

/// <summary>What the steps up to a state have found out and done.</summary>
/// <param name="Normalized">How values are distributed that a batch normalization made.</param>
/// <param name="Notes">Fields of the report.</param>
/// <param name="Origins">Weights that steps made or changed, by name.</param>
internal sealed record StateFacts(
    Dictionary<string, ChannelDistribution> Normalized,
    Dictionary<string, JsonElement> Notes,
    Dictionary<string, LayerOrigin> Origins
)
{
    /// <summary>What became of layers otherwise than planned when they were put into the graph, by the name of their weight.</summary>
    public Dictionary<string, LayerNote> LayerNotes { get; init; } = [];

    /// <summary>What was coded at its entropy, or null.</summary>
    public CodedConstants? Entropy { get; init; }

    /// <summary>Bytes that this saved of layers, by the name of their weight.</summary>
    public Dictionary<string, long> SavedByCoding { get; init; } = [];

    /// <summary>Steps of earlier chains that did nothing with a weight, with the reason, by the weight's name.</summary>
    public Dictionary<string, IReadOnlyList<NotAppliedStep>> NotApplied { get; init; } = [];

    /// <summary>Layers of earlier chains that others took the place of.</summary>
    public List<ReplacedLayer> Replaced { get; init; } = [];

    /// <summary>Their names, as rules match them.</summary>
    internal IEnumerable<(string Name, string? Node)> ReplacedNames => Replaced.Select(r => (r.Name, r.Node));

    /// <summary>Steps of all chains that do nothing with a layer of the last one.</summary>
    public IReadOnlyList<NotAppliedStep> AllNotApplied(LayerTask task) =>
        [.. NotApplied.GetValueOrDefault(task.Name, []), .. task.NotApplied];

    /// <summary>Why nothing is done with a layer of the last chain, or null.</summary>
    public string? Reason(LayerTask task) =>
        task.SkipReason == LayerTasks.NoStep && AllNotApplied(task) is [var first, ..] ? first.Reason : task.SkipReason;

    /// <summary>Notes of each layer of a chain: the steps that did nothing with it, and the values that took its place.</summary>
    /// <param name="task">The layer.</param>
    /// <param name="values">Names of the values; none where it stays.</param>
    public void Note(LayerTask task, IReadOnlyList<string> values)
    {
        NotApplied.Remove(task.Name, out var before);
        IReadOnlyList<NotAppliedStep> all = [.. before ?? [], .. task.NotApplied];
        foreach (var name in all.Count == 0 ? [] : values.DefaultIfEmpty(task.Name))
            NotApplied[name] = all;
        if (values.Count > 1)
            Replaced.Add(new ReplacedLayer(task.Name, task.Node));
    }

    /// <summary>Sentences that whoever uses the result should read first.</summary>
    public List<string> Warnings { get; init; } = [];
}

/// <summary>A layer that others took the place of.</summary>
/// <param name="Name">The weight.</param>
/// <param name="Node">The first node that used it, or null.</param>
internal sealed record ReplacedLayer(string Name, string? Node);

/// <summary>What earlier steps did with a weight.</summary>
/// <param name="Steps">The steps, as the report names them.</param>
/// <param name="Rank">Rank of the product that it is a factor of, or null.</param>
/// <param name="BytesBefore">Bytes of the original that it stands for.</param>
/// <param name="Error">Relative error of what it stands for.</param>
/// <param name="Nonzero">Weights that are not zero.</param>
internal sealed record LayerOrigin(IReadOnlyList<string> Steps, int? Rank, long BytesBefore, double Error, long Nonzero)
{
    /// <summary>Notes the layers that a step on the model has made smaller.</summary>
    /// <param name="origins">What is known of weights, by name.</param>
    /// <param name="work">The model after the step.</param>
    /// <param name="label">The step.</param>
    public static void Note(Dictionary<string, LayerOrigin> origins, GraphWork work, string label)
    {
        if (work.Changed.Count == 0)
            return;
        var weights = Weight.Of(work.Model).ToDictionary(w => w.Name, StringComparer.Ordinal);
        foreach (var changed in work.Changed.Where(c => weights.ContainsKey(c.Name)))
        {
            var (before, elements) = (origins.GetValueOrDefault(changed.Name), weights[changed.Name].Reference.Elements);
            origins[changed.Name] = new LayerOrigin(
                [.. before?.Steps ?? [], label],
                before?.Rank,
                before?.BytesBefore ?? changed.BytesBefore,
                before?.Error ?? 0,
                Math.Min(before?.Nonzero ?? elements, elements)
            );
        }
    }

    /// <summary>Notes that a chain made values of a weight, in the place of what is known of the weight.</summary>
    /// <param name="origins">What is known of weights, by name.</param>
    /// <param name="task">The weight and the chain.</param>
    /// <param name="values">Names of the values.</param>
    /// <param name="rank">Rank of the product that they are, or 0.</param>
    /// <param name="error">Relative error of the chain.</param>
    /// <param name="nonzero">Weights that are not zero, of all values together.</param>
    public static void Note(
        Dictionary<string, LayerOrigin> origins,
        LayerTask task,
        IReadOnlyList<string> values,
        int rank,
        double error,
        long nonzero
    )
    {
        origins.Remove(task.Name, out var before);
        foreach (var value in values)
            origins[value] = new LayerOrigin(
                [.. before?.Steps ?? [], .. task.Chain.Select(p => p.Step.Label)],
                rank > 0 ? rank : before?.Rank,
                (before?.BytesBefore ?? task.Data.Length) / values.Count,
                LayerCache.Together(before?.Error ?? 0, error),
                nonzero
            );
    }
}
