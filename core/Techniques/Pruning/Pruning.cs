using Serverless.Core.Forms;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>Prunes single weights, or patterns of them, by a share of each layer or of all.</summary>
/// <typeparam name="TOptions">The options record.</typeparam>
public abstract class Pruning<TOptions> : PruningStep<TOptions>
    where TOptions : PruneOptions, new()
{
    private const double Default = 0.5,
        Least = 0.01;

    /// <summary>Share of the weights that options set to zero.</summary>
    private protected static double Sparsity(TOptions options) =>
        PatternOf(options) is { IsGroups: true } groups ? groups.Sparsity : options.Sparsity ?? Default;

    /// <summary>The pattern of options.</summary>
    private protected static SparsityPattern PatternOf(TOptions options) => SparsityPattern.Parse(options.Pattern);

    /// <inheritdoc/>
    protected override string? WhyInvalid(TOptions options)
    {
        var pattern = PatternOf(options);
        if (pattern.WhyInvalid() is { } why)
            return why;
        if (pattern.IsGroups && options.Sparsity is { } given && Math.Abs(given - pattern.Sparsity) > 1e-3)
            return FormattableString.Invariant($"'pattern: {pattern}' is a sparsity of {pattern.Sparsity:0.###}: leave 'sparsity' out");
        if (pattern.IsGroups && options.Scope is PruneScope.Global or PruneScope.Erk)
            return $"'pattern: {pattern}' is the same sparsity in every layer: it goes with 'scope: layer' or 'scope: measured'";
        return options is { Scope: PruneScope.Measured, Rounds: > 1 }
            ? "'scope: measured' chooses sparsities once: leave 'rounds' out, or take 'scope: layer' or 'scope: erk'"
            : null;
    }

    /// <inheritdoc/>
    protected override Ladder Ladder(TOptions options)
    {
        var (pattern, asked) = (PatternOf(options), Sparsity(options));
        if (options.Scope == PruneScope.Measured)
            return pattern.IsGroups
                ? SparsityLadder.Around(pattern, Groups, Of(0, SparsityPattern.None))
                : SparsityLadder.Around(asked, s => Of(s, options.Pattern));
        var rungs = new List<Setting> { new(this, options) };
        if (pattern.IsGroups)
            while ((pattern = pattern with { Keep = (pattern.Keep + pattern.Of + 1) / 2 }).Keep < pattern.Of)
                rungs.Add(Groups(pattern));
        else
            for (var o = options; Sparsity(o) >= 2 * Least; rungs.Add(new Setting(this, o)))
                o = Halved(o with { Sparsity = Sparsity(o) / 2 });
        return Techniques.Ladder.From(rungs);

        Setting Groups(SparsityPattern p) => new(this, options with { Sparsity = null, Pattern = p.ToString(), Scope = PruneScope.Layer });
        Setting Of(double s, string p) => new(this, options with { Sparsity = Math.Round(s, 6), Pattern = p, Scope = PruneScope.Layer });
    }

    /// <summary>What else changes where the sparsity was halved.</summary>
    private protected virtual TOptions Halved(TOptions options) => options;

    /// <inheritdoc/>
    public override IReadOnlyList<object> Expand(object options) =>
        options is TOptions { Rounds: > 1 } of
            ?
            [
                .. CubicSchedule
                    .Of(Sparsity(of), PatternOf(of), of.Rounds)
                    .Select(r => of with { Sparsity = r.Sparsity, Pattern = r.Pattern, Rounds = 1 }),
            ]
            : [options];

    /// <inheritdoc/>
    protected override UnitKind Units(TOptions options) => options.Scope == PruneScope.Erk ? UnitKind.Layers : UnitKind.Weight;

    /// <inheritdoc/>
    protected override Task<WeightSurvey> SurveyAsync(WeightReader weight, long[] dims, TOptions options, CancellationToken cancellation) =>
        Task.FromResult(new WeightSurvey(weight.Elements, new Dictionary<int, long>()) { Dims = dims });

    /// <inheritdoc/>
    protected override IReadOnlyList<TOptions> Allocate(LayerUnit unit, IReadOnlyList<TOptions> options)
    {
        var sparsities = ErdosRenyiKernel.Sparsities([.. unit.Members.Select(m => m.Survey.Dims!)], Sparsity(options[0]));
        return [.. options.Select((o, i) => o with { Sparsity = sparsities[i], Scope = PruneScope.Layer })];
    }

    /// <inheritdoc/>
    protected override string? WhyNot(Weight weight, LayerShape shape, TOptions options) => PatternOf(options).WhyNot(weight, shape);

    /// <inheritdoc/>
    protected override LayerPlan Plan(Weight weight, LayerShape shape, Store store, TOptions options)
    {
        var (reference, density) = (weight.Reference, 1 - Sparsity(options));
        var bits = DataTypes.Bits(reference.DataType);
        var bytes = SparseBytes.Estimate(reference.Elements, density, bits, store) is { } sparse
            ? Math.Min(reference.Length, sparse)
            : reference.Length;
        return new LayerPlan(FormName.Dense, bits, 1, bytes, 3L * WeightReader.Whole + WorkingBytes(shape, options)) { Density = density };
    }

    /// <summary>Memory that choosing the weights takes.</summary>
    private protected abstract long WorkingBytes(LayerShape shape, TOptions options);
}
