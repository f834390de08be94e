using Serverless.Core.Onnx;
using Serverless.Core.Techniques.Calibration;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques;

/// <summary>What a technique would do with a layer, decided from its shape alone.</summary>
/// <param name="Form">How the result stands in the model.</param>
/// <param name="Bits">Bits a weight.</param>
/// <param name="Block">Weights that share a scale.</param>
/// <param name="BytesAfter">Bytes it will take, graph nodes included.</param>
/// <param name="WorkingBytes">Memory that compressing it needs.</param>
public sealed record LayerPlan(StorageForm Form, int Bits, int Block, long BytesAfter, long WorkingBytes)
{
    /// <summary>How the weight is viewed, where the technique wants another view than the layer's; else null.</summary>
    public LayerShape? Shape { get; init; }

    /// <summary>Why the form is not the one that the technique is for, or null.</summary>
    public string? Instead { get; init; }

    /// <summary>How the layer's input and output are rounded, when they are.</summary>
    public ActivationRounding? Activation { get; init; }

    /// <summary>The operator set that the weight's scope imports.</summary>
    public long Opset { get; init; }
}

/// <summary>How activations are rounded.</summary>
/// <param name="Range">How their range is chosen.</param>
/// <param name="Percentile">Percent of the values inside, for <see cref="RangeMethod.Percentile"/>.</param>
public sealed record ActivationRounding(RangeMethod Range, double Percentile);

/// <summary>A layer at work.</summary>
/// <param name="Weight">The weight's values.</param>
/// <param name="Shape">How to view them.</param>
/// <param name="Plan">From <see cref="LayerTechnique.Plan"/>.</param>
public sealed record LayerWork(WeightReader Weight, LayerShape Shape, LayerPlan Plan)
{
    /// <summary>What is known of the layer's input, when the technique asked for it and it could be observed.</summary>
    public InputStatistics? Input { get; init; }

    /// <summary>Why nothing is known of it, or null.</summary>
    public string? NotObserved { get; init; }
}

/// <summary>A technique with its options.</summary>
public sealed record Treatment(LayerTechnique Technique, object Options);

/// <summary>
/// A technique that compresses one layer at a time. It registers by existing: one file, with its options record,
/// and a recipe can name it.
/// </summary>
public abstract class LayerTechnique
{
    /// <summary>Every technique of this assembly, by step and method.</summary>
    public static IReadOnlyList<LayerTechnique> All { get; } =
    [
        .. typeof(LayerTechnique)
            .Assembly.GetTypes()
            .Where(t => t.IsSubclassOf(typeof(LayerTechnique)) && !t.IsAbstract)
            .Select(t => (LayerTechnique)Activator.CreateInstance(t)!)
            .OrderBy(t => t.Step, StringComparer.Ordinal)
            .ThenBy(t => t.Method, StringComparer.Ordinal),
    ];

    /// <summary>The recipe's key: <c>quantize</c>.</summary>
    public abstract string Step { get; }

    /// <summary>The recipe's <c>method</c>: <c>rtn</c>.</summary>
    public abstract string Method { get; }

    /// <summary>What the method is, in a sentence, with its source.</summary>
    public abstract string About { get; }

    /// <summary>The options record; a public parameterless constructor gives the defaults.</summary>
    public abstract Type OptionsType { get; }

    /// <summary>Why a combination of options makes no sense, or null.</summary>
    public virtual string? WhyInvalid(object options) => null;

    /// <summary>
    /// The options with those decided that depend on this machine: settled once a run, so that the result does not depend on
    /// where its layers are compressed.
    /// </summary>
    public virtual object Settled(object options) => options;

    /// <summary>Whether a step that names no method means this one.</summary>
    public virtual bool IsDefault => false;

    /// <summary>How the layer is treated more gently, or null when it can only be left as it is.</summary>
    public abstract Treatment? Gentler(object options);

    /// <summary>What to choose from for each layer, narrowest first, when the width is <c>mixed</c>; else nothing.</summary>
    public virtual IReadOnlyList<Treatment> Choices(object options) => [];

    /// <summary>Share of all weights, smallest layers first, that are treated more gently from the start.</summary>
    public virtual double Protect(object options) => 0;

    /// <summary>What it wants to know of the layer's input.</summary>
    public virtual Statistics Needs(object options) => Statistics.None;

    /// <summary>Values of the main graph whose distribution it wants to know to put the layer into the graph.</summary>
    public virtual IEnumerable<InputView> Watches(Weight weight, object options) => [];

    /// <summary>Samples that it is calibrated on, at most.</summary>
    public virtual int Samples(object options) => 0;

    /// <summary>What it would do with a weight.</summary>
    public abstract LayerPlan Plan(Weight weight, LayerShape shape, object options);

    /// <summary>
    /// What it would do with a weight that it has an integer kernel compute with, where that is slower than float; null where it has none
    /// do so, or is to whatever it takes.
    /// </summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">How it is viewed.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="why">Why the layer stays float, for the report.</param>
    public virtual LayerPlan? InFloat(Weight weight, LayerShape shape, object options, string why) => null;

    /// <summary>Compresses a weight into a shard.</summary>
    /// <param name="work">The layer.</param>
    /// <param name="options">The technique's options.</param>
    /// <param name="shard">Receives the codes, scales and zero points, from its start.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="LayerRefusedException">The values cannot be compressed so; says why.</exception>
    public abstract Task<EncodedLayer> CompressAsync(LayerWork work, object options, Stream shard, CancellationToken cancellation);
}

/// <summary>A technique whose options are a <typeparamref name="TOptions"/>.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class LayerTechnique<TOptions> : LayerTechnique
    where TOptions : notnull, new()
{
    /// <inheritdoc/>
    public sealed override Type OptionsType => typeof(TOptions);

    /// <inheritdoc/>
    public sealed override string? WhyInvalid(object options) => WhyInvalid((TOptions)options);

    /// <inheritdoc/>
    public sealed override object Settled(object options) => Settled((TOptions)options);

    /// <inheritdoc/>
    public sealed override Treatment? Gentler(object options) => Gentler((TOptions)options);

    /// <inheritdoc/>
    public sealed override IReadOnlyList<Treatment> Choices(object options) => Choices((TOptions)options);

    /// <inheritdoc/>
    public sealed override double Protect(object options) => Protect((TOptions)options);

    /// <inheritdoc/>
    public sealed override Statistics Needs(object options) => Needs((TOptions)options);

    /// <inheritdoc/>
    public sealed override IEnumerable<InputView> Watches(Weight weight, object options) => Watches(weight, (TOptions)options);

    /// <inheritdoc/>
    public sealed override int Samples(object options) => Samples((TOptions)options);

    /// <inheritdoc/>
    public sealed override LayerPlan Plan(Weight weight, LayerShape shape, object options) => Plan(weight, shape, (TOptions)options);

    /// <inheritdoc/>
    public sealed override LayerPlan? InFloat(Weight weight, LayerShape shape, object options, string why) =>
        InFloat(weight, shape, (TOptions)options, why);

    /// <inheritdoc/>
    public sealed override Task<EncodedLayer> CompressAsync(LayerWork work, object options, Stream shard, CancellationToken cancellation) =>
        CompressAsync(work, (TOptions)options, shard, cancellation);

    /// <inheritdoc cref="LayerTechnique.WhyInvalid"/>
    protected virtual string? WhyInvalid(TOptions options) => null;

    /// <inheritdoc cref="LayerTechnique.Settled"/>
    protected virtual TOptions Settled(TOptions options) => options;

    /// <inheritdoc cref="LayerTechnique.Gentler"/>
    protected abstract Treatment? Gentler(TOptions options);

    /// <inheritdoc cref="LayerTechnique.Choices"/>
    protected virtual IReadOnlyList<Treatment> Choices(TOptions options) => [];

    /// <inheritdoc cref="LayerTechnique.Protect"/>
    protected virtual double Protect(TOptions options) => 0;

    /// <inheritdoc cref="LayerTechnique.Needs"/>
    protected virtual Statistics Needs(TOptions options) => Statistics.None;

    /// <inheritdoc cref="LayerTechnique.Watches"/>
    protected virtual IEnumerable<InputView> Watches(Weight weight, TOptions options) => [];

    /// <inheritdoc cref="LayerTechnique.Samples"/>
    protected virtual int Samples(TOptions options) => 0;

    /// <inheritdoc cref="LayerTechnique.Plan"/>
    protected abstract LayerPlan Plan(Weight weight, LayerShape shape, TOptions options);

    /// <inheritdoc cref="LayerTechnique.InFloat"/>
    protected virtual LayerPlan? InFloat(Weight weight, LayerShape shape, TOptions options, string why) => null;

    /// <inheritdoc cref="LayerTechnique.CompressAsync"/>
    protected abstract Task<EncodedLayer> CompressAsync(LayerWork work, TOptions options, Stream shard, CancellationToken cancellation);
}

/// <summary>A layer's values cannot be compressed; it is left alone and the report says why.</summary>
public sealed class LayerRefusedException(string why) : Exception(why);
