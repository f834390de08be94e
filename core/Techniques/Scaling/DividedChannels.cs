using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Scaling;

/// <summary>What a report says of values whose channels were divided.</summary>
/// <param name="Equalized">Values whose channels were equalized between two layers.</param>
/// <param name="Smoothed">Values whose channels were smoothed by their activations.</param>
/// <param name="NotScaled">Layers whose inputs cannot be scaled, or that no sample reached.</param>
/// <param name="Inserted">Smoothed values that a Mul divides, put in before the layers.</param>
/// <param name="Unchanged">Values that are best as they are.</param>
public sealed record Rescaling(int Equalized, int Smoothed, int NotScaled, int Inserted, int Unchanged);

/// <summary>Divides the channels of values in the constants that make them, and multiplies them in the weights that take them.</summary>
internal sealed class DividedChannels
{
    private const string Field = "rescaling";
    private readonly GraphWork work;
    private readonly GraphIndex index;

    /// <summary>Of a model.</summary>
    public DividedChannels(GraphWork work)
    {
        (this.work, Constants, Values) = (work, new ScaledConstants(work), ChannelScaling.Of(work.Model));
        index = new GraphFacts(work.Model).Main.Index;
    }

    /// <summary>The model's constants as they are to be.</summary>
    public ScaledConstants Constants { get; }

    /// <summary>The values that can be divided.</summary>
    public IReadOnlyList<ChannelScaling> Values { get; }

    /// <summary>Divides a value's channels.</summary>
    public void Divide(ChannelScaling value, double[] by)
    {
        foreach (var producer in value.Makers)
            Constants.Multiply(producer, c => 1 / by[c]);
        if (
            value.FromLayer
            && Convolution(value.Makers[0].Tensor.Name) is { } conv
            && work.Normalized.TryGetValue(conv.Output[0], out var made)
        )
            work.Normalized[conv.Output[0]] = made.DividedBy(by);
        foreach (var taker in value.Takers)
            Constants.Multiply(taker, c => by[c]);
    }

    private NodeProto? Convolution(string weight) =>
        index.OwnConsumers(weight).FirstOrDefault(n => n is { OpType: "Conv", Input.Count: > 1 } && n.Input[1] == weight);

    /// <summary>Writes the constants, and the figures for the report; to those of a step before, these are added.</summary>
    /// <param name="looked">Values that were divided, or looked at and left.</param>
    /// <param name="figures">The figures but for <see cref="Rescaling.NotScaled"/>.</param>
    /// <param name="cancellation">Cancels the writing.</param>
    public async Task FinishAsync(IEnumerable<ChannelScaling> looked, Rescaling figures, CancellationToken cancellation)
    {
        await Constants.WriteAsync(cancellation);
        var layers = Weight.Of(work.Model).Count(w => w.Uses.Any(u => u is { Op: "Conv" or "MatMul" or "Gemm", Input: 1 }));
        var notScaled = layers - looked.Sum(v => v.Takers.Count);
        var before = work.Noted<Rescaling>(Field);
        work.Note(
            Field,
            new Rescaling(
                figures.Equalized + (before?.Equalized ?? 0),
                figures.Smoothed + (before?.Smoothed ?? 0),
                Math.Min(notScaled, before?.NotScaled ?? notScaled),
                figures.Inserted + (before?.Inserted ?? 0),
                figures.Unchanged + (before?.Unchanged ?? 0)
            )
        );
    }
}
