using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Activations;

/// <summary>Options of a step that takes everything from the plans of the layers before it.</summary>
public sealed record NoOptions;

/// <summary>How values between coded layers are computed: a step that layer steps ask for, behind all others.</summary>
public abstract class ActivationTechnique : GraphTechnique<NoOptions>
{
    /// <inheritdoc/>
    public sealed override string Step => "activations";

    /// <inheritdoc/>
    public sealed override bool InRecipes => false;

    /// <inheritdoc/>
    public sealed override StepOrder Order => StepOrder.Last;

    /// <summary>The distribution of values as a whole, on as many samples as the layer steps ask for.</summary>
    private protected static GraphNeeds Distributions(IEnumerable<string> values) =>
        new([.. values.Distinct().Select(v => new InputView(v, 0, null))], StatisticKinds.Range | StatisticKinds.Histogram, 0);
}
