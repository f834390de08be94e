using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques;

/// <summary>A technique that works on the model as a whole: a graph in, a graph out.</summary>
public abstract class GraphTechnique : Technique
{
    /// <summary>Values to observe before the step is applied; none by default.</summary>
    /// <param name="model">The model that the step will change.</param>
    /// <param name="options">The step's options.</param>
    public virtual GraphNeeds Needs(ModelProto model, object options) => GraphNeeds.None;

    /// <summary>Changes the model.</summary>
    /// <param name="work">The model.</param>
    /// <param name="options">The step's options.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="ModelRunNeededException">The step runs the model (<see cref="GraphWork.RunsModel"/>).</exception>
    public virtual Task ApplyAsync(GraphWork work, object options, CancellationToken cancellation) => Task.CompletedTask;

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
    public sealed override GraphNeeds Needs(ModelProto model, object options) => Needs(model, (TOptions)options);

    /// <inheritdoc/>
    public sealed override Task ApplyAsync(GraphWork work, object options, CancellationToken cancellation) =>
        ApplyAsync(work, (TOptions)options, cancellation);

    /// <inheritdoc/>
    public sealed override void Finish(ModelProto model, object options) => Finish(model, (TOptions)options);

    /// <inheritdoc cref="Technique.WhyInvalid"/>
    protected virtual string? WhyInvalid(TOptions options) => null;

    /// <inheritdoc cref="Technique.Settled"/>
    protected virtual TOptions Settled(TOptions options) => options;

    /// <inheritdoc cref="GraphTechnique.Needs"/>
    protected virtual GraphNeeds Needs(ModelProto model, TOptions options) => GraphNeeds.None;

    /// <inheritdoc cref="GraphTechnique.ApplyAsync"/>
    protected virtual Task ApplyAsync(GraphWork work, TOptions options, CancellationToken cancellation) => Task.CompletedTask;

    /// <inheritdoc cref="GraphTechnique.Finish"/>
    protected virtual void Finish(ModelProto model, TOptions options) { }
}
