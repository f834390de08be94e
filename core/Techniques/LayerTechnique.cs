using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques;

/// <summary>
/// A technique that works on one layer at a time, fanned out over the layers.
/// </summary>
public abstract class LayerTechnique : Technique
{
    /// <summary>Settings from the strongest to the gentlest, beginning with these options unless they leave the choice open.</summary>
    public abstract Ladder Ladder(object options);

    /// <summary>Share of all weights, smallest layers first, that are treated more gently from the start.</summary>
    public virtual double Protect(object options) => 0;

    /// <summary>What it wants to know of the layer's input.</summary>
    public virtual StatisticKinds Needs(object options) => StatisticKinds.None;

    /// <summary>Steps on the model that have to follow where layers are planned so.</summary>
    /// <param name="plans">Plans of the layers that the step codes.</param>
    /// <param name="options">The technique's options.</param>
    public virtual IReadOnlyList<Setting> Behind(IReadOnlyList<LayerPlan> plans, object options) => [];

    /// <summary>Samples that it is calibrated on, at most.</summary>
    public virtual int Samples(object options) => 0;

    /// <summary>
    /// Whether what layers put out is observed for it, which has to be that of the layers as the steps before it leave them: then it
    /// begins a chain.
    /// </summary>
    public virtual bool ObservesOutputs => false;

    /// <summary>Whether the result is dense floats, which a later step may take; else codes.</summary>
    public virtual bool LeavesDense => false;

    /// <summary>Whether it makes several layers of one, each a layer for the steps behind it.</summary>
    public virtual bool ChangesLayers => false;

    /// <summary>Why it does nothing with a weight, for the report, or null.</summary>
    public virtual string? WhyNot(Weight weight, LayerShape shape, object options) => null;

    /// <summary>
    /// What its options are settled for at once (default: each weight alone). Other than that, weights are read
    /// (<see cref="SurveyAsync(WeightReader, long[], object, CancellationToken)"/>) before anything is compressed, and <see
    /// cref="Allocate"/> settles the options.
    /// </summary>
    public virtual UnitKind Units(object options) => UnitKind.Weight;

    /// <summary>Reads from a layer's weights, before anything is compressed, what <see cref="Allocate"/> has to know of them.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="dims">Its dimensions.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public virtual Task<WeightSurvey> SurveyAsync(WeightReader weight, long[] dims, object options, CancellationToken cancellation) =>
        throw new NotSupportedException($"{Step} {Method} surveys no weights.");

    /// <summary>The same where the view of the layer is to be known.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="dims">Its dimensions.</param>
    /// <param name="shape">How it is viewed.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public virtual Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        LayerShape shape,
        object options,
        CancellationToken cancellation
    ) => SurveyAsync(weight, dims, options, cancellation);

    /// <summary>Settles the options of a unit's layers. Units of coupled channels come in the order of the file.</summary>
    /// <param name="unit">The layers, with what was read of them.</param>
    /// <param name="options">Options of each member: the technique's own, or as an earlier unit left them.</param>
    /// <returns>Options of each member; they may not ask for units again.</returns>
    public virtual IReadOnlyList<object> Allocate(LayerUnit unit, IReadOnlyList<object> options) => options;

    /// <summary>What it would do with a weight.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">How it is viewed.</param>
    /// <param name="store">What forms are chosen by.</param>
    /// <param name="options">The technique's options.</param>
    public abstract LayerPlan Plan(Weight weight, LayerShape shape, Store store, object options);

    /// <summary>
    /// What it would do with a weight that it has an integer kernel compute with, where that is slower than float; null where it has none
    /// do so, or is to whatever it takes.
    /// </summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">How it is viewed.</param>
    /// <param name="store">What forms are chosen by.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="ratio">How many times as long as the original the model took.</param>
    public virtual LayerPlan? InFloat(Weight weight, LayerShape shape, Store store, object options, double ratio) => null;

    /// <summary>Compresses a weight into a shard.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="shard">Receives the codes, scales and zero points, from its start.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="LayerRefusedException">The values cannot be compressed so; says why.</exception>
    public abstract Task<EncodedLayer> CompressAsync(LayerWork work, object options, Stream shard, CancellationToken cancellation);
}

/// <summary>A layer's values cannot be compressed; it is left alone and the report says why.</summary>
public sealed class LayerRefusedException(string why) : Exception(why);
