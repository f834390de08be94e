namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>How many units of a group may go.</summary>
internal static class GroupLevels
{
    private const int Steps = 16;
    private const double LeastKept = 0.05;

    /// <summary>The most.</summary>
    public static int Most(int units, ShrinkOptions options) => Of(units, options)[^1];

    /// <summary>
    /// All numbers that may go, ascending, from 0 on: what is left is a multiple of the option's, or of few units any number.
    /// </summary>
    public static IReadOnlyList<int> Of(int units, ShrinkOptions options)
    {
        var multiple = Multiple(units, options);
        var step = Math.Max(multiple, units / Steps / multiple * multiple);
        var least = Math.Max(1, (int)Math.Ceiling(LeastKept * units));
        var levels = new List<int> { 0 };
        // From the largest multiple below all units down.
        for (var kept = (units - 1) / multiple * multiple; kept >= least; kept -= step)
            levels.Add(units - kept);
        return levels;
    }

    /// <summary>The number nearest to a share.</summary>
    public static int Of(int units, double share, ShrinkOptions options)
    {
        var multiple = Multiple(units, options);
        var kept = Math.Max(1, (int)Math.Round((1 - share) * units / multiple)) * multiple;
        return Math.Max(0, units - kept);
    }

    private static int Multiple(int units, ShrinkOptions options) => units >= 2 * options.Multiple ? options.Multiple : 1;
}
