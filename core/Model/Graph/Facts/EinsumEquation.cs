using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>The letters of an Einsum's equation, one an axis.</summary>
/// <param name="Inputs">Of each input.</param>
/// <param name="Output">Of the output.</param>
internal sealed record EinsumEquation(IReadOnlyList<string> Inputs, string Output)
{
    /// <summary>Null when it is written without an output, with an ellipsis, or with a letter twice in one term.</summary>
    public static EinsumEquation? Parse(NodeProto node, int inputs)
    {
        var sides = node.Text("equation", "").Replace(" ", "", StringComparison.Ordinal).Split("->");
        if (sides.Length != 2 || sides[0].Contains('.', StringComparison.Ordinal))
            return null;
        var terms = sides[0].Split(',');
        if (terms.Length != inputs || terms.Append(sides[1]).Any(t => t.Distinct().Count() != t.Length))
            return null;
        return sides[1].All(c => terms.Any(t => t.Contains(c, StringComparison.Ordinal))) ? new EinsumEquation(terms, sides[1]) : null;
    }
}
