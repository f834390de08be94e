using Serverless.Core.Numerics;

namespace Serverless.Core.Runs;

/// <summary>A candidate and what it was seen to lose.</summary>
internal sealed record AllocationTrial(AllocationCandidate Candidate, TrialLoss Loss);

/// <summary>
/// Finds the best choice on the model itself. What single layers lose predicts what they lose together only
/// roughly, so each layer's loss is given a weight, and the weights are searched by the cross-entropy method (Rubinstein 1999; de
/// Boer et al. 2005, "A Tutorial on the Cross-Entropy Method", algorithm 3.1): drawn from log-normal distributions,
/// solved for, tried, and drawn again around those that did best. Numbers are drawn from a fixed seed.
/// </summary>
/// <param name="space">The choices.</param>
/// <param name="target">Bytes of the model.</param>
/// <param name="tryOut">Tries a choice.</param>
internal sealed class AllocationSearch(AllocationSpace space, long target, Func<AllocationCandidate, Task<TrialLoss>> tryOut)
{
    private const int Drawn = 8,
        Elite = 3;
    private const double Spread = 1,
        LeastSpread = 0.25;
    private readonly Dictionary<string, AllocationTrial> tried = new(StringComparer.Ordinal);

    /// <summary>Tries candidates, then draws more.</summary>
    /// <param name="start">Candidates to try first.</param>
    /// <param name="rounds">Rounds of eight candidates.</param>
    /// <returns>All that were tried, best first.</returns>
    public async Task<IReadOnlyList<AllocationTrial>> RunAsync(IReadOnlyList<AllocationCandidate> start, int rounds)
    {
        foreach (var candidate in start)
            await TryAsync(candidate);
        var random = new Random(1);
        var (mean, spread) = (new double[space.Open.Count], Enumerable.Repeat(Spread, space.Open.Count).ToArray());
        var drawn = new List<(double[] Weights, double Loss)>();
        for (var round = 0; round < rounds; round++)
        {
            // The least levels that did best so far.
            var floors = tried.Values.OrderBy(Cost).Select(t => t.Candidate.LeastLevel).Distinct().Take(Elite).ToList();
            for (var i = 0; i < Drawn; i++)
            {
                var weights = mean.Select((m, layer) => m + (spread[layer] * NormalNumbers.Next(random))).ToArray();
                if (space.Fit(floors[i % floors.Count], target, [.. weights.Select(Math.Exp)]) is { } candidate)
                    drawn.Add((weights, Cost(await TryAsync(candidate))));
            }
            var elite = drawn.OrderBy(d => d.Loss).Take(Elite).ToList();
            for (var layer = 0; layer < mean.Length && elite.Count > 1; layer++)
            {
                mean[layer] = elite.Average(e => e.Weights[layer]);
                spread[layer] = Math.Max(LeastSpread, Math.Sqrt(elite.Average(e => Math.Pow(e.Weights[layer] - mean[layer], 2))));
            }
        }
        return [.. tried.Values.OrderBy(Cost)];
    }

    private double Cost(AllocationTrial trial) => trial.Loss.Together(space.ScoreScale);

    private async Task<AllocationTrial> TryAsync(AllocationCandidate candidate)
    {
        var key = string.Join(',', candidate.Chosen);
        return tried.TryGetValue(key, out var known) ? known : tried[key] = new AllocationTrial(candidate, await tryOut(candidate));
    }
}
