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

    /// <summary>Sentences that whoever uses the result should read first.</summary>
    public List<string> Warnings { get; init; } = [];
}

/// <summary>What earlier steps did with a weight.</summary>
/// <param name="Steps">The steps, as the report names them.</param>
/// <param name="Rank">Rank of the product that it is a factor of, or null.</param>
/// <param name="BytesBefore">Bytes of the original that it stands for.</param>
/// <param name="Error">Relative error of what it stands for.</param>
/// <param name="Nonzero">Weights that are not zero.</param>
internal sealed record LayerOrigin(IReadOnlyList<string> Steps, int? Rank, long BytesBefore, double Error, long Nonzero)
{
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
