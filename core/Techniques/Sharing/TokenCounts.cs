using Serverless.Core.Execution;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>How often each row of a table is looked up in the samples that techniques may see.</summary>
internal static class TokenCounts
{
    private static readonly HashSet<string> Passing = ["Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose"];

    /// <summary>The inputs of the model that hold a table's indices as they are.</summary>
    public static IReadOnlyList<string> Inputs(EmbeddingTable table) =>
        [.. table.Indices.Select(i => InputOf(i.Scope, i.Value)).OfType<string>().Distinct(StringComparer.Ordinal)];

    /// <summary>Counts the indices; negative ones count from the end.</summary>
    /// <param name="samples">The samples.</param>
    /// <param name="inputs">Inputs that hold indices, for each table.</param>
    /// <param name="rows">Rows of each table.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    /// <returns>Counts of each table's rows.</returns>
    public static IReadOnlyList<long[]> Of(
        IEnumerable<Sample> samples,
        IReadOnlyList<IReadOnlyList<string>> inputs,
        IReadOnlyList<long> rows,
        CancellationToken cancellation
    )
    {
        var counts = rows.Select((r, i) => inputs[i].Count == 0 ? [] : new long[r]).ToList();
        foreach (var sample in samples)
        {
            cancellation.ThrowIfCancellationRequested();
            for (var t = 0; t < counts.Count; t++)
                foreach (var value in inputs[t].Select(i => sample.Inputs[i]).Where(v => ElementTypes.IsWhole(v.Type)))
                    for (var i = 0; i < value.Elements; i++)
                    {
                        var index = (long)ElementTypes.Get(value.Bytes, value.Type, i);
                        index += index < 0 ? rows[t] : 0;
                        if (index >= 0 && index < rows[t])
                            counts[t][index]++;
                    }
        }
        return counts;
    }

    private static string? InputOf(GraphScope scope, string value)
    {
        while (scope.Resolve(value) is { } home)
        {
            if (home.Index.Producer(value) is not { } producer)
                return
                    home is { Parent: null, Graph: { } main }
                    && main.Input.Any(i => i.Name == value)
                    && main.Initializer.All(t => t.Name != value)
                    ? value
                    : null;
            if (!Passing.Contains(producer.Operator()))
                return null;
            (scope, value) = (home, producer.Input[0]);
        }
        return null;
    }
}
