using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>A block that others are like: its matrices have the same operators, types and shapes, in the same order.</summary>
/// <param name="Block">The block.</param>
/// <param name="Matrices">Its matrices and kernels, each used once and by it alone, in the order of its nodes.</param>
internal sealed record RepeatedBlock(GraphBlock Block, IReadOnlyList<Weight> Matrices)
{
    // Smaller ones are worth no reference.
    private const long LeastElements = 1024;

    /// <summary>Elements of its matrices.</summary>
    public long Elements => Matrices.Sum(m => m.Reference.Elements);

    /// <summary>The sets of blocks of a model that are alike, two or more each, the largest first; no weight is in two.</summary>
    /// <param name="model">The model.</param>
    /// <param name="facts">Its facts.</param>
    /// <param name="of">Which blocks.</param>
    /// <param name="whySkipped">Why a weight is to stay as it is; null where it is not.</param>
    /// <param name="cancellation">Cancels the search.</param>
    public static IReadOnlyList<IReadOnlyList<RepeatedBlock>> SetsOf(
        ModelProto model,
        GraphFacts facts,
        SharedParts of,
        Func<Weight, string?> whySkipped,
        CancellationToken cancellation
    )
    {
        var weights = Weight
            .Of(model, facts.Roots)
            .Where(w => IsMatrix(w) && whySkipped(w) is null)
            .ToDictionary(w => w.Value, StringComparer.Ordinal);
        var (sets, taken) = (new List<IReadOnlyList<RepeatedBlock>>(), new HashSet<string>(StringComparer.Ordinal));
        var alike = GraphBlocks
            .Of(facts, cancellation)
            .All.Where(b => b.Role != BlockRole.Layer && IsOf(b, of))
            .Select(b => new RepeatedBlock(b, MatricesOf(b, weights)))
            .Where(b => b.Matrices.Count > 0)
            .GroupBy(b => b.Signature, StringComparer.Ordinal)
            .Select(g => g.ToList())
            .Where(g => g.Count > 1)
            .OrderByDescending(g => g.Sum(b => b.Elements))
            .ThenBy(g => g[0].Block.Kind);
        foreach (var set in alike)
        {
            var free = set.Where(b => b.Matrices.All(m => taken.Add(m.Value))).ToList();
            if (free.Count > 1)
                sets.Add(free);
        }
        return sets;
    }

    private string Signature =>
        $"{Block.Kind}/{Block.Role}/"
        + string.Join(
            '|',
            Matrices.Select(m => $"{m.Type}:{string.Join('x', m.Reference.Dims)}:{m.Uses[0].Input}:{SignatureOf(m.Uses[0].Node)}")
        );

    private static string SignatureOf(NodeProto node) =>
        node.Operator()
        + string.Join(
            ',',
            node.Attribute.OrderBy(a => a.Name, StringComparer.Ordinal)
                .Select(a => FormattableString.Invariant($"{a.Name}={a.I};{a.F};{a.Ints};{a.S.ToBase64()}"))
        );

    private static List<Weight> MatricesOf(GraphBlock block, Dictionary<string, Weight> weights)
    {
        var own = block.Constants.ToHashSet(StringComparer.Ordinal);
        return
        [
            .. block
                .Nodes.SelectMany(n => n.Input)
                .Where(own.Contains)
                .Distinct()
                .Select(weights.GetValueOrDefault)
                .OfType<Weight>()
                .Where(w => block.Nodes.Contains(w.Uses[0].Node, ReferenceEqualityComparer.Instance)),
        ];
    }

    private static bool IsMatrix(Weight weight) =>
        weight is { SkipReason: null, Constant: null, Cast: null, Uses: [{ Direct: true }], Scope: { Parent: null, Function: null } }
        && weight.Reference.Dims.Length > 1
        && weight.Reference.Elements >= LeastElements
        && (DataType)weight.Type is DataType.Float or DataType.Float16;

    private static bool IsOf(GraphBlock block, SharedParts of) =>
        of switch
        {
            SharedParts.Attention => block.Role == BlockRole.Attention,
            SharedParts.Mlp => block.Role == BlockRole.Mlp,
            SharedParts.Residual => block.Kind == BlockKind.Residual,
            _ => true,
        };
}
