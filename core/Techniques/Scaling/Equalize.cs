using System.ComponentModel.DataAnnotations;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Scaling;

/// <summary>Options of <see cref="Equalize"/>.</summary>
public sealed record EqualizationOptions
{
    /// <summary>Rounds over all pairs of layers at most (default 20).</summary>
    [Range(1, 1000)]
    public int Rounds { get; init; } = 20;
}

/// <summary>The step <c>equalize</c> (<see cref="Equalization"/>).</summary>
public sealed class Equalize : GraphTechnique<EqualizationOptions>
{
    private const long LargestEqualized = 16 << 20;

    /// <inheritdoc/>
    public override string Step => "equalize";

    /// <inheritdoc/>
    public override string About => "Channels as wide in a layer's weights as in the next one's, without data (Nagel et al. 2019).";

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'equalize' scales weights before they are rounded: put it in front of 'quantize'" : null;

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, EqualizationOptions options, CancellationToken cancellation)
    {
        var channels = new DividedChannels(work);
        var small = channels
            .Values.Where(v =>
                v.FromLayer && v.Takers.Append(v.Makers[0]).All(t => t.Tensor.Dims.Aggregate(1L, (a, b) => a * b) <= LargestEqualized)
            )
            .ToList();
        var widest = new Dictionary<TensorProto, float[,]>(ReferenceEqualityComparer.Instance);
        foreach (var t in small.SelectMany(v => v.Takers.Append(v.Makers[0])))
            widest[t.Tensor] = widest.GetValueOrDefault(t.Tensor) ?? await channels.Constants.WidestAsync(t.Tensor, cancellation);
        var scales = Equalization.Solve(small, t => widest[t.Tensor], options);
        for (var i = 0; i < small.Count; i++)
            channels.Divide(small[i], scales[i]!);
        await channels.FinishAsync(small, new Rescaling(small.Count, 0, 0, 0, 0), cancellation);
    }
}
