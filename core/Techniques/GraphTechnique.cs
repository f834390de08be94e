using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques;

/// <summary>A technique that works on the model as a whole: a graph in, a graph out.</summary>
public abstract class GraphTechnique : Technique
{
    /// <summary>Whether it works on the model once its layers are coded, attempt by attempt, and runs it.</summary>
    public virtual bool RunsCoded => false;

    /// <summary>Whether the options switch the step off.</summary>
    public virtual bool IsOff(object options) => false;

    /// <summary>Values to observe before the step is applied; none by default.</summary>
    /// <param name="model">The model that the step will change.</param>
    /// <param name="layers">Layers that the chain in front of the step is planned to code.</param>
    /// <param name="options">The step's options.</param>
    public virtual GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, object options) => GraphNeeds.None;

    /// <summary>Changes the model.</summary>
    /// <param name="work">The model.</param>
    /// <param name="options">The step's options.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="ModelRunNeededException">The step runs the model (<see cref="GraphWork.RunsModel"/>).</exception>
    public virtual Task ApplyAsync(GraphWork work, object options, CancellationToken cancellation) => Task.CompletedTask;

    /// <summary>How the coded layers that the step takes are put into the graph; null where it takes none.</summary>
    /// <param name="work">The model and its coded layers.</param>
    /// <param name="options">The step's options.</param>
    /// <param name="cancellation">Cancels the reading of statistics.</param>
    public virtual Task<Lowering?> LowerAsync(LoweringWork work, object options, CancellationToken cancellation) =>
        Task.FromResult<Lowering?>(null);

    /// <summary>Changes a finished model, its layers in place, where that changes no value that it computes; nothing by default.</summary>
    /// <param name="model">The model; its weights may be byte ranges of the store.</param>
    /// <param name="options">The step's options.</param>
    public virtual void Finish(ModelProto model, object options) { }
}

/// <summary>A technique whose options are a <typeparamref name="TOptions"/>.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class GraphTechnique<TOptions> : GraphTechnique
    where TOptions : notnull, new()
{
    /// <inheritdoc/>
    public sealed override Type OptionsType => typeof(TOptions);

    /// <inheritdoc/>
    public sealed override string? WhyInvalid(object options) => WhyInvalid((TOptions)options);

    /// <inheritdoc/>
    public sealed override object Settled(object options) => Settled((TOptions)options);

    /// <inheritdoc/>
    public sealed override bool IsOff(object options) => IsOff((TOptions)options);

    /// <inheritdoc/>
    public sealed override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, object options) =>
        Needs(model, layers, (TOptions)options);

    /// <inheritdoc/>
    public sealed override Task<Lowering?> LowerAsync(LoweringWork work, object options, CancellationToken cancellation) =>
        LowerAsync(work, (TOptions)options, cancellation);

    /// <inheritdoc/>
    public sealed override Task ApplyAsync(GraphWork work, object options, CancellationToken cancellation) =>
        ApplyAsync(work, (TOptions)options, cancellation);

    /// <inheritdoc/>
    public sealed override void Finish(ModelProto model, object options) => Finish(model, (TOptions)options);

    /// <inheritdoc cref="Technique.WhyInvalid"/>
    protected virtual string? WhyInvalid(TOptions options) => null;

    /// <inheritdoc cref="Technique.Settled"/>
    protected virtual TOptions Settled(TOptions options) => options;

    /// <inheritdoc cref="GraphTechnique.IsOff"/>
    protected virtual bool IsOff(TOptions options) => false;

    /// <inheritdoc cref="GraphTechnique.Needs"/>
    protected virtual GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, TOptions options) => GraphNeeds.None;

    /// <inheritdoc cref="GraphTechnique.LowerAsync"/>
    protected virtual Task<Lowering?> LowerAsync(LoweringWork work, TOptions options, CancellationToken cancellation) =>
        Task.FromResult<Lowering?>(null);

    /// <inheritdoc cref="GraphTechnique.ApplyAsync"/>
    protected virtual Task ApplyAsync(GraphWork work, TOptions options, CancellationToken cancellation) => Task.CompletedTask;

    /// <inheritdoc cref="GraphTechnique.Finish"/>
    protected virtual void Finish(ModelProto model, TOptions options) { }
}

/// <summary>A layer that a step is planned to code.</summary>
/// <param name="Weight">The weight.</param>
/// <param name="Plan">The plan of the chain's last step.</param>
/// <param name="Setting">The chain's last step.</param>
public sealed record PlannedLayer(Weight Weight, LayerPlan Plan, Setting Setting);
