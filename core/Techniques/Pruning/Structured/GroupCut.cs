namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>A cut model and what it costs.</summary>
/// <param name="Model">The model.</param>
/// <param name="Errors">The errors of the ways that were tried.</param>
internal sealed record ShrunkModel(CutModel Model, ShrinkErrors Errors);

/// <summary>Cuts units out of a model and refits what takes them.</summary>
/// <param name="work">The model and its trials.</param>
/// <param name="facts">The model, and what its layers take.</param>
/// <param name="groups">The groups.</param>
/// <param name="orders">The order in which units of each go.</param>
internal sealed class GroupCut(GraphWork work, UnitFacts facts, IReadOnlyList<PrunableGroup> groups, IReadOnlyList<UnitOrder> orders)
{
    // Groups differ in what they cost by orders of magnitude: few samples rank them.
    private const int SensitivitySamples = 32;

    /// <summary>The squared relative error of the outputs where one group alone loses units; null where the model is not run.</summary>
    public async Task<double?> LossAsync(int group, int count, bool refit, CancellationToken cancellation)
    {
        var counts = new int[groups.Count];
        counts[group] = count;
        var cut = await facts.Model.CutAsync(Units(counts), await ValuesAsync(counts, refit, cancellation), [], cancellation);
        return await work.TryAsync(cut.Model, cancellation, SensitivitySamples) is { } change
            ? Math.Pow(change.Scores ?? change.RelativeError, 2)
            : null;
    }

    /// <summary>Cuts, and keeps the best of the ways to refit.</summary>
    /// <param name="counts">Units that go of each group.</param>
    /// <param name="refit">Whether to refit.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public async Task<ShrunkModel> CutAsync(IReadOnlyList<int> counts, bool refit, CancellationToken cancellation)
    {
        var plain = await facts.Model.CutAsync(Units(counts), new Dictionary<int, float[]>(), [], cancellation);
        var errors = new ShrinkErrors(await ErrorAsync(plain, cancellation), null, null);
        if (!refit || facts.Observed is null)
            return new ShrunkModel(plain, errors);
        var values = await ValuesAsync(counts, refit, cancellation);
        var local = await facts.Model.CutAsync(Units(counts), values, [], cancellation);
        errors = errors with { Refitted = await ErrorAsync(local, cancellation) };
        var best = errors.Refitted > errors.Cut ? plain : local;
        if (await StagedAsync(counts, values, cancellation) is not { } staged)
            return new ShrunkModel(best, errors);
        errors = errors with { Staged = await ErrorAsync(staged, cancellation) };
        return new ShrunkModel(errors.Staged > Math.Min(errors.Refitted ?? 0, errors.Cut ?? 0) ? best : staged, errors);
    }

    /// <summary>The units that go, by the number of their group.</summary>
    public IReadOnlyDictionary<int, IReadOnlyList<int>> Units(IReadOnlyList<int> counts) =>
        groups
            .Select((g, i) => (g.Number, Units: (IReadOnlyList<int>)[.. orders[i].Units.Take(counts[i])]))
            .Where(g => g.Units.Count > 0)
            .ToDictionary(g => g.Number, g => g.Units);

    private async Task<double?> ErrorAsync(CutModel cut, CancellationToken cancellation) =>
        work.Trials is null ? null : (await work.TryAsync(cut.Model, cancellation))?.RelativeError;

    private async Task<Dictionary<int, float[]>> ValuesAsync(IReadOnlyList<int> counts, bool refit, CancellationToken cancellation)
    {
        if (!refit || facts.Observed is null)
            return [];
        var columns = new Dictionary<int, HashSet<int>>();
        for (var i = 0; i < groups.Count; i++)
            foreach (var consumer in groups[i].Consumers.Where(_ => counts[i] > 0))
            {
                if (!columns.TryGetValue(consumer.Layer.Tensor, out var all))
                    columns[consumer.Layer.Tensor] = all = [];
                all.UnionWith(orders[i].Units.Take(counts[i]).SelectMany(u => consumer.Columns[u]));
            }
        return await Refit.LocalAsync(facts.Model, columns, facts.Observed, cancellation);
    }

    private async Task<CutModel?> StagedAsync(IReadOnlyList<int> counts, Dictionary<int, float[]> values, CancellationToken cancellation)
    {
        var trials = work.Trials!;
        var folder = await trials.FolderAsync(cancellation);
        var source = facts.Model.As(trials.Model.Model);
        var layers = facts.Model.Layers.Where(l => facts.Observed!.Input(l) is not null).ToList();
        var inline = layers.SelectMany(l => l.Bias is { } b ? new[] { l.Tensor, b } : [l.Tensor]);
        var cut = await source.CutAsync(Units(counts), values, inline, cancellation);
        var biases = new Dictionary<int, float[]>();
        foreach (var place in layers.Select(l => l.Bias).OfType<int>())
            biases[place] = await facts.Model.ReadAsync(place, cancellation);
        var samples = await trials.ReadAsync(trials.Samples, cancellation);
        if (StagedRefit.Run(cut, folder, layers, biases, facts.Observed!, samples, cancellation) is not { Count: > 0 } fitted)
            return null;
        var result = await facts.Model.CutAsync(Units(counts), values, fitted, cancellation);
        foreach (var place in fitted)
            PrunableModel.Put(result.Constants[place], cut.Constants[place].RawData.ToByteArray(), [.. cut.Constants[place].Dims]);
        return result;
    }
}
