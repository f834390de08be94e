using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques;

/// <summary>Runs of the model as it was before its layers were coded, and of the coded one.</summary>
/// <param name="Original">The model that values were observed on.</param>
/// <param name="Samples">Samples that techniques may see.</param>
/// <param name="IsData">Whether they are real data; else they are synthetic.</param>
public sealed record ModelRuns(ModelIndex Original, int Samples, bool IsData)
{
    /// <summary>Puts the files of the original into a local folder, which stays until the step ends.</summary>
    public required Func<CancellationToken, Task<string>> FolderAsync { get; init; }

    /// <summary>Reads the first so many samples of real data.</summary>
    public required Func<int, CancellationToken, IEnumerable<Sample>> Read { get; init; }

    /// <summary>Puts the coded layers into a copy of the model.</summary>
    public required Func<ModelProto, CancellationToken, Task<LoweredModel>> LowerAsync { get; init; }
}

/// <summary>A model with its coded layers in the graph.</summary>
/// <param name="Model">The graph; every weight of 128 bytes or more lies in a file.</param>
/// <param name="Biases">Float biases that were coded, by name.</param>
/// <param name="Folder">Local folder of the files, which stays until the step ends.</param>
public sealed record LoweredModel(ModelProto Model, IReadOnlyDictionary<string, BiasPlace> Biases, string Folder);
