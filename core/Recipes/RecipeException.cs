using YamlDotNet.RepresentationModel;

namespace Serverless.Core.Recipes;

/// <summary>Something in a recipe is wrong, and where.</summary>
internal sealed class RecipeException(long line, string what) : Exception(what)
{
    public RecipeException(YamlNode node, string what)
        : this(node.Start.Line, what) { }

    public long Line => line;

    /// <summary>An unknown key, with the nearest known one.</summary>
    public static RecipeException Unknown(YamlNode node, string key, IEnumerable<string> known)
    {
        var all = known.Order(StringComparer.Ordinal).ToList();
        var nearest = all.MinBy(k => Distance(key, k));
        var hint =
            nearest is not null && Distance(key, nearest) <= Math.Max(2, key.Length / 2)
                ? $"did you mean '{nearest}'?"
                : $"known are {string.Join(", ", all)}";
        return new RecipeException(node, $"unknown key '{key}'; {hint}");
    }

    /// <summary>Edits that turn one word into the other (Levenshtein 1966).</summary>
    internal static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                var cost = Math.Min(Math.Min(row[j], row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
                (diagonal, row[j]) = (row[j], cost);
            }
        }
        return row[b.Length];
    }
}
