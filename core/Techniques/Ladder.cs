namespace Serverless.Core.Techniques;

/// <summary>A setting of a step, with the level that settings of layers are compared by.</summary>
/// <param name="Setting">The technique and its options.</param>
/// <param name="Level">The gentler, the larger: bits a weight, the share of weights that is kept.</param>
public sealed record Rung(Setting Setting, double Level);

/// <summary>Settings of a step for a layer, from the strongest to the gentlest; gentler than the last is leaving the layer alone.</summary>
/// <param name="Rungs">At least one.</param>
/// <param name="IsOpen">Whether each layer's is to be chosen; else every layer begins with the first, and climbs over budget.</param>
public sealed record Ladder(IReadOnlyList<Rung> Rungs, bool IsOpen)
{
    /// <summary>Of an open ladder, the level whose size is the target where the recipe has no budget.</summary>
    public double Reference { get; init; }

    /// <summary>The setting asked for.</summary>
    public Setting First => Rungs[0].Setting;

    /// <summary>The setting after the first, or null.</summary>
    public Setting? Gentler => Rungs.Count > 1 ? Rungs[1].Setting : null;

    /// <summary>A ladder that begins with a setting.</summary>
    /// <param name="settings">The settings.</param>
    public static Ladder From(params IEnumerable<Setting> settings) => new([.. settings.Select(s => new Rung(s, 0))], false);

    /// <summary>A ladder of settings to choose from.</summary>
    /// <param name="rungs">The settings, those of one level after one another.</param>
    /// <param name="reference">The level whose size is the target without a budget.</param>
    public static Ladder Open(IEnumerable<Rung> rungs, double reference) => new([.. rungs], true) { Reference = reference };
}
