namespace Serverless.Core.Runs;

/// <summary>
/// Layers that no sample reaches, as in a branch that none takes: whatever is done to them, the outputs measured stay the same. That says
/// nothing of their worth, so they are taken to lose what the other layers lose on average at the same relative error of their weights.
/// </summary>
internal static class UnreachedLayers
{
    /// <summary>Sensitivities in which unreached layers are as sensitive as the others.</summary>
    /// <param name="measured">What was measured of each layer.</param>
    /// <param name="reference">Index of each layer's reference choice.</param>
    public static IReadOnlyList<LayerSensitivity> LikeTheOthers(IReadOnlyList<LayerSensitivity> measured, IReadOnlyList<int> reference)
    {
        if (!measured.Any(IsUnreached))
            return measured;
        var (outputs, scores, layers) = (0.0, 0.0, 0);
        for (var i = 0; i < measured.Count; i++)
        {
            if (IsUnreached(measured[i]) || measured[i].Made.Count == 0 || Error(measured[i], reference[i]) is not (> 0 and var error))
                continue;
            var loss = measured[i].Losses[reference[i]];
            (outputs, scores, layers) = (outputs + loss.Outputs / error, scores + loss.Scores / error, layers + 1);
        }
        return layers == 0
            ? measured
            :
            [
                .. measured.Select(m =>
                    IsUnreached(m)
                        ? m with
                        {
                            Losses =
                            [
                                .. m.Made.Select((_, c) => new TrialLoss(outputs / layers * Error(m, c), scores / layers * Error(m, c))),
                            ],
                        }
                        : m
                ),
            ];
    }

    private static bool IsUnreached(LayerSensitivity layer) =>
        layer is { Measured: > 0, Made.Count: > 0 } && layer.Losses.All(l => l is { Outputs: 0, Scores: 0 });

    private static double Error(LayerSensitivity layer, int choice) =>
        layer.Made[choice].Layer.RelativeError * layer.Made[choice].Layer.RelativeError;
}
