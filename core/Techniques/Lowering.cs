using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques;

/// <summary>A layer that a chain of steps has coded, not yet in the graph.</summary>
/// <param name="Weight">The weight that the codes stand for.</param>
/// <param name="Layer">The codes.</param>
/// <param name="Shard">Store path of their bytes.</param>
/// <param name="Plan">The plan of the chain's last step.</param>
/// <param name="Setting">The chain's last step.</param>
public sealed record CodedLayer(Weight Weight, EncodedLayer Layer, string Shard, LayerPlan Plan, Setting Setting);

/// <summary>A model whose coded layers are about to be put into the graph.</summary>
/// <param name="edit">The edit of the graph.</param>
/// <param name="weights">Every weight of the graph.</param>
/// <param name="coded">Coded layers by the name of their weight.</param>
public sealed class LoweringWork(ModelEdit edit, IReadOnlyList<Weight> weights, IReadOnlyDictionary<string, CodedLayer> coded)
{
    /// <summary>The edit of the graph.</summary>
    public ModelEdit Edit => edit;

    /// <summary>Every weight of the graph, in its order.</summary>
    public IReadOnlyList<Weight> Weights => weights;

    /// <summary>Coded layers by the name of their weight.</summary>
    public IReadOnlyDictionary<string, CodedLayer> Coded => coded;

    /// <summary>Weights that stay as they are because coding them would save nothing.</summary>
    public IReadOnlySet<string> TooSmall { get; init; } = new HashSet<string>();

    /// <summary>Reads a small constant of the graph.</summary>
    public required Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> ReadAsync { get; init; }

    /// <summary>Reads bytes of a shard.</summary>
    public required Func<string, ShardRange, CancellationToken, Task<byte[]>> ReadShardAsync { get; init; }

    /// <summary>Statistics of some kind of the values that were observed, read one after another.</summary>
    public required Func<
        StatisticKinds,
        CancellationToken,
        IAsyncEnumerable<(IReadOnlyList<InputView> Views, InputStatistics Statistics)>
    > ObservedAsync { get; init; }

    /// <summary>
    /// How many times larger a value may get from the quietest to the loudest samples; infinite where they are real data.
    /// </summary>
    public double MostGrowth { get; init; } = double.PositiveInfinity;

    /// <summary>Whether the values were observed on synthetic samples.</summary>
    public bool Synthetic { get; init; }

    /// <summary>What became of layers otherwise than planned, by the name of their weight.</summary>
    public Dictionary<string, LayerNote> Notes { get; } = new(StringComparer.Ordinal);

    /// <summary>Sentences that whoever uses the result should read first.</summary>
    public List<string> Warnings { get; } = [];

    /// <summary>Float biases that were coded, by name.</summary>
    public Dictionary<string, BiasPlace> Biases { get; } = new(StringComparer.Ordinal);
}

/// <summary>What became of a layer otherwise than planned.</summary>
/// <param name="Form">The form it has.</param>
/// <param name="Fallback">The reason, for the report.</param>
public sealed record LayerNote(string Form, string Fallback);

/// <summary>
/// Puts coded layers into the graph whose nodes depend on each other or on values of the model; the others go in one by one
/// (<see cref="Form"/>).
/// </summary>
public abstract class Lowering
{
    /// <summary>Offers a layer, in the order of the graph.</summary>
    /// <param name="layer">The layer.</param>
    /// <returns>Whether it is placed, or will be by <see cref="FinishAsync"/>.</returns>
    public virtual bool Take(CodedLayer layer) => false;

    /// <summary>Works on the graph once all layers were offered and the others are in it.</summary>
    /// <param name="cancellation">Cancels the work.</param>
    public virtual Task FinishAsync(CancellationToken cancellation) => Task.CompletedTask;
}
