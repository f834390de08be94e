using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques;

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
    public sealed override Ladder Ladder(object options) => Ladder((TOptions)options);

    /// <inheritdoc/>
    public sealed override double Protect(object options) => Protect((TOptions)options);

    /// <inheritdoc/>
    public sealed override StatisticKinds Needs(object options) => Needs((TOptions)options);

    /// <inheritdoc/>
    public sealed override IReadOnlyList<Setting> Behind(IReadOnlyList<LayerPlan> plans, object options) =>
        Behind(plans, (TOptions)options);

    /// <inheritdoc/>
    public sealed override int Samples(object options) => Samples((TOptions)options);

    /// <inheritdoc/>
    public sealed override string? WhyNot(Weight weight, LayerShape shape, object options) => WhyNot(weight, shape, (TOptions)options);

    /// <inheritdoc/>
    public sealed override UnitKind Units(object options) => Units((TOptions)options);

    /// <inheritdoc/>
    public sealed override Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        object options,
        CancellationToken cancellation
    ) => SurveyAsync(weight, dims, (TOptions)options, cancellation);

    /// <inheritdoc/>
    public sealed override Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        LayerShape shape,
        object options,
        CancellationToken cancellation
    ) => SurveyAsync(weight, dims, shape, (TOptions)options, cancellation);

    /// <inheritdoc/>
    public sealed override IReadOnlyList<object> Allocate(LayerUnit unit, IReadOnlyList<object> options) =>
        [.. Allocate(unit, [.. options.Cast<TOptions>()]).Cast<object>()];

    /// <inheritdoc/>
    public sealed override LayerPlan Plan(Weight weight, LayerShape shape, Store store, object options) =>
        Plan(weight, shape, store, (TOptions)options);

    /// <inheritdoc/>
    public sealed override LayerPlan? InFloat(Weight weight, LayerShape shape, Store store, object options, double ratio) =>
        InFloat(weight, shape, store, (TOptions)options, ratio);

    /// <inheritdoc/>
    public sealed override Task<EncodedLayer> CompressAsync(LayerWork work, object options, Stream shard, CancellationToken cancellation) =>
        CompressAsync(work, (TOptions)options, shard, cancellation);

    /// <inheritdoc cref="Technique.WhyInvalid"/>
    protected virtual string? WhyInvalid(TOptions options) => null;

    /// <inheritdoc cref="Technique.Settled"/>
    protected virtual TOptions Settled(TOptions options) => options;

    /// <inheritdoc cref="LayerTechnique.Ladder"/>
    protected virtual Ladder Ladder(TOptions options) => Techniques.Ladder.From(new Setting(this, options));

    /// <inheritdoc cref="LayerTechnique.Protect"/>
    protected virtual double Protect(TOptions options) => 0;

    /// <inheritdoc cref="LayerTechnique.Needs"/>
    protected virtual StatisticKinds Needs(TOptions options) => StatisticKinds.None;

    /// <inheritdoc cref="LayerTechnique.Behind"/>
    protected virtual IReadOnlyList<Setting> Behind(IReadOnlyList<LayerPlan> plans, TOptions options) => [];

    /// <inheritdoc cref="LayerTechnique.Samples"/>
    protected virtual int Samples(TOptions options) => 0;

    /// <inheritdoc cref="LayerTechnique.WhyNot"/>
    protected virtual string? WhyNot(Weight weight, LayerShape shape, TOptions options) => null;

    /// <inheritdoc cref="LayerTechnique.Units"/>
    protected virtual UnitKind Units(TOptions options) => UnitKind.Weight;

    /// <inheritdoc cref="LayerTechnique.SurveyAsync(WeightReader, long[], object, CancellationToken)"/>
    protected virtual Task<WeightSurvey> SurveyAsync(WeightReader weight, long[] dims, TOptions options, CancellationToken cancellation) =>
        throw new NotSupportedException($"{Step} {Method} surveys no weights.");

    /// <inheritdoc cref="LayerTechnique.SurveyAsync(WeightReader, long[], LayerShape, object, CancellationToken)"/>
    protected virtual Task<WeightSurvey> SurveyAsync(
        WeightReader weight,
        long[] dims,
        LayerShape shape,
        TOptions options,
        CancellationToken cancellation
    ) => SurveyAsync(weight, dims, options, cancellation);

    /// <inheritdoc cref="LayerTechnique.Allocate"/>
    protected virtual IReadOnlyList<TOptions> Allocate(LayerUnit unit, IReadOnlyList<TOptions> options) => options;

    /// <inheritdoc cref="LayerTechnique.Plan"/>
    protected abstract LayerPlan Plan(Weight weight, LayerShape shape, Store store, TOptions options);

    /// <inheritdoc cref="LayerTechnique.InFloat"/>
    protected virtual LayerPlan? InFloat(Weight weight, LayerShape shape, Store store, TOptions options, double ratio) => null;

    /// <inheritdoc cref="LayerTechnique.CompressAsync"/>
    protected abstract Task<EncodedLayer> CompressAsync(LayerWork work, TOptions options, Stream shard, CancellationToken cancellation);
}
