using System.ComponentModel.DataAnnotations;
using Serverless.Core.Forms;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>Options of <see cref="Drone"/>.</summary>
public sealed record DroneOptions : RankOptions
{
    /// <summary>Samples that inputs are observed on, at most (default 128).</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 128;

    /// <summary>
    /// Share of the mean of the Gram matrix's diagonal that is added to it, at least (default 0.0001): more where the samples are few.
    /// </summary>
    [Range(0.0, 1)]
    public double Damping { get; init; } = 1e-4;
}

/// <summary>
/// Data-aware low-rank factorization (Chen et al. 2021, "DRONE: Data-aware Low-rank Compression for Large NLP Models", theorem 1): of all
/// products of a rank, the one whose outputs are nearest to the layer's on its real inputs (<see cref="NearestOutputs"/>).
/// </summary>
public sealed class Drone : Factorization<DroneOptions>
{
    /// <inheritdoc/>
    public override string Method => "drone";

    /// <inheritdoc/>
    public override string About =>
        "A matrix becomes the product of two smaller ones whose outputs are nearest on real inputs, calibrated (Chen et al. 2021, DRONE).";

    /// <inheritdoc/>
    protected override StatisticKinds Needs(DroneOptions options) => StatisticKinds.Gram;

    /// <inheritdoc/>
    protected override int Samples(DroneOptions options) => options.Samples;

    /// <inheritdoc/>
    private protected override long WorkingBytes(ProductLayout layout) =>
        NearestOutputs.WorkingBytes(layout.Inputs * layout.Pixels, layout.Outputs);

    /// <inheritdoc/>
    private protected override async Task<IApproximation> PrepareAsync(
        LayerWork work,
        DroneOptions options,
        double[] weight,
        CancellationToken cancellation
    )
    {
        if (work.WhyNoGram is { } why)
            return Plain(why);
        var moments = new InputMoments(await work.Input!.ReadGramAsync!(0, cancellation), work.Input.GramRows);
        return moments.Damped(options.Damping) is { } damped
            ? new NearestOutputs(weight, moments, damped, (int)work.Plan.Layout!.Outputs)
            : Plain("the second moments of its input are singular");

        NearestWeights Plain(string reason) => new(weight, $"factorized without its inputs: {reason}");
    }
}
