using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>How the graph around the weights is tidied; all of it leaves the outputs as they were.</summary>
public sealed record SimplifyOptions
{
    /// <summary>Names inside the graph: short (default) or keep. Inputs, outputs and weights' reports keep theirs.</summary>
    public NameStyle Names { get; init; } = NameStyle.Short;

    /// <summary>
    /// Compute expressions of constants in front of weights once, as weight normalization, transposed weights and fake quantization are
    /// (default true).
    /// </summary>
    public bool Constants { get; init; } = true;

    /// <summary>
    /// Fold BatchNormalization, and factors and offsets that are constants, into the convolution before it (default true).
    /// </summary>
    public bool BatchNorm { get; init; } = true;

    /// <summary>
    /// Inputs of the model that are initializers too, which a caller may override: keep (default: they and their weights stay as they are)
    /// or constant (they are no inputs any more).
    /// </summary>
    public InitializerInputs InitializerInputs { get; init; } = InitializerInputs.Keep;

    /// <summary>Write x * clip(x + 3, 0, 6) / 6 as x * HardSigmoid(x) (default true).</summary>
    public bool HardSwish { get; init; } = true;
}

/// <summary>What becomes of inputs of the model that have an initializer as a default (ONNX IR, "Graphs").</summary>
public enum InitializerInputs
{
    /// <summary>A caller may go on to override them.</summary>
    Keep,

    /// <summary>They are constants, and no inputs.</summary>
    Constant,
}

/// <summary>What becomes of names inside the graph.</summary>
public enum NameStyle
{
    /// <summary>A few characters each, where that saves bytes.</summary>
    Short,

    /// <summary>As they were.</summary>
    Keep,
}

/// <summary>Tidies the graph around the weights; all of it leaves the outputs as they were.</summary>
public sealed class Simplify : GraphTechnique<SimplifyOptions>
{
    private const double NamesWorthwhile = 0.01;

    /// <inheritdoc/>
    public override string Step => "simplify";

    /// <inheritdoc/>
    public override string About =>
        "Constants computed and merged, batch normalization folded, names shortened: the model computes what it did.";

    /// <inheritdoc/>
    public override bool IsImplied => true;

    /// <inheritdoc/>
    public override StepOrder Order => StepOrder.First;

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, SimplifyOptions options, CancellationToken cancellation)
    {
        if (options.InitializerInputs == InitializerInputs.Constant)
            FixInputs(work.Model.Graph);
        var edit = new ModelEdit(work.Model);
        ShadowedNames.Apply(edit);
        ConstantMerging.Apply(edit, cancellation);
        if (options.Constants)
        {
            WideningCasts.MoveLast(edit.Roots[0]);
            work.Note("folded", await ConstantFolding.ApplyAsync(work, edit, cancellation));
            edit = new ModelEdit(work.Model);
            edit.DropDead(cancellation);
        }
        // Rules of the recipe may treat weights of one kind differently, by their names.
        if (!work.HasRules)
            ConstantMerging.MergeShared(edit);
        if (options.BatchNorm)
            foreach (var (value, made) in await ConvFolding.ApplyAsync(edit, work.ReadAsync, work.KeepAsync, cancellation))
                if (made.Mean.Concat(made.Deviation).All(double.IsFinite))
                    work.Normalized[value] = made;
        if (options.HardSwish)
            HardSwishFolding.Apply(edit);
        ConstantMerging.Apply(edit, cancellation);
    }

    private static void FixInputs(GraphProto graph)
    {
        var initializers = graph.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        for (var i = graph.Input.Count - 1; i >= 0; i--)
            if (initializers.Contains(graph.Input[i].Name))
                graph.Input.RemoveAt(i);
    }

    /// <inheritdoc/>
    protected override void Finish(ModelProto model, SimplifyOptions options)
    {
        if (options.Names == NameStyle.Short)
            ShortenWhereWorthwhile(model);
    }

    // Where that saves a percent or more.
    private static void ShortenWhereWorthwhile(ModelProto model)
    {
        long before = model.CalculateSize();
        var trial = model.Clone();
        NameShortening.Apply(trial);
        var payload = ModelIndex
            .Tensors(model)
            .Sum(t => t.Tensor.DataLocation == TensorProto.Types.DataLocation.External ? TensorRef.From(t.Tensor, t.Place).Length : 0);
        if (before - trial.CalculateSize() >= NamesWorthwhile * (before + payload))
            NameShortening.Apply(model);
    }
}
