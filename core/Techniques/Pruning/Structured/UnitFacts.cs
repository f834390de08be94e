using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>What importances of units are told by.</summary>
/// <param name="Model">The model.</param>
/// <param name="Observed">What its layers take; null without samples.</param>
/// <param name="Normalized">Distributions of values that a batch normalization made, by value.</param>
internal sealed record UnitFacts(PrunableModel Model, Observed? Observed, IReadOnlyDictionary<string, ChannelDistribution> Normalized);
