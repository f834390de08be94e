using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// The blocks of a model's main graph. From each value on, the block ends at the first node that all paths of data go through, that puts
/// out the same type and shape, and in front of which there is a layer. A normalization or bound that follows belongs to the block where
/// the block's input comes from such a one too, as in LN(x + f(x)) and Relu(x + f(x)). Sums x + f(x) are found also where x is used
/// elsewhere. Blocks may lie in each other.
/// </summary>
public sealed class GraphBlocks
{
    // A plain stretch of many nodes is a network of its own.
    private const int MostPlain = 64;
    private readonly ScopeFacts facts;
    private readonly DataFlow flow;
    private readonly PostDominators ends;
    private readonly List<GraphBlock> found = [];
    private readonly List<RefusedBlock> refused = [];
    private readonly HashSet<(string, string)> seen = [];

    private GraphBlocks(ScopeFacts facts)
    {
        this.facts = facts;
        flow = new DataFlow(facts.Scope);
        ends = new PostDominators(facts.Scope, flow);
    }

    /// <summary>The blocks, in the order of their outputs; whole layers behind their parts.</summary>
    public IReadOnlyList<GraphBlock> All { get; private set; } = [];

    /// <summary>Sums x + f(x) that cannot be left out.</summary>
    public IReadOnlyList<RefusedBlock> Refused => refused;

    /// <summary>Finds the blocks of the main graph.</summary>
    /// <param name="facts">Facts of the model.</param>
    /// <param name="cancellation">Cancels the search.</param>
    public static GraphBlocks Of(GraphFacts facts, CancellationToken cancellation)
    {
        var blocks = new GraphBlocks(facts.Main);
        foreach (var value in blocks.flow.Inputs.Concat(blocks.flow.Nodes.SelectMany(n => n.Output)).Where(blocks.flow.IsData))
        {
            cancellation.ThrowIfCancellationRequested();
            blocks.From(value);
        }
        for (var node = 0; node < blocks.flow.Nodes.Count; node++)
        {
            cancellation.ThrowIfCancellationRequested();
            blocks.Sum(node);
        }
        var place = blocks.found.ToDictionary(b => b, b => blocks.flow.Place(facts.Main.Index.Producer(b.Output)!));
        var all = blocks.found.OrderBy(b => place[b]).ToList();
        blocks.All = [.. all, .. Layers(all)];
        return blocks;
    }

    private void From(string input)
    {
        if (facts.Shape(input) is not { Count: > 0 })
            return;
        var region = new BlockRegion(input, flow, facts.Index);
        IEnumerable<string> from = [input];
        foreach (var end in ends.Of(input))
        {
            if (!region.Grow(from, end) || region.HasSubgraphs)
                return;
            if (region.HasLayer && OutputOf(end, input) is { } output)
            {
                var kind = BlockShape.Kind(input, flow.Nodes[end], region, facts.Index);
                if (kind == BlockKind.Residual || !region.HasOtherInputs && IsWorthListing(input, kind, region))
                    Add(input, end, output, kind, region);
                return;
            }
            from = flow.Nodes[end].Output;
        }
    }

    // x + f(x) where x is used elsewhere too.
    private void Sum(int end)
    {
        var node = flow.Nodes[end];
        if (!BlockShape.IsSum(node))
            return;
        foreach (var input in node.Input.Take(2).Select(i => BlockShape.Past(i, facts.Index)).Distinct())
        {
            if (!flow.IsData(input) || OutputOf(end, input) is not { } output || seen.Contains((input, flow.Nodes[end].Output[0])))
                continue;
            var region = new BlockRegion(input, flow, facts.Index);
            if (!region.Between(end) || !region.HasLayer)
                continue;
            if (region.HasSubgraphs)
                refused.Add(new RefusedBlock(input, output, "a node of it has subgraphs"));
            else if (region.Nodes.Where(n => n != node).SelectMany(n => n.Output).FirstOrDefault(IsTakenOutside) is { } exit)
                refused.Add(new RefusedBlock(input, output, $"'{exit}' from inside it is used behind it"));
            else
                Add(input, end, output, BlockKind.Residual, region);

            bool IsTakenOutside(string value) =>
                facts.Index.IsOutput(value) || flow.Takers(value).Any(t => !region.Places.Contains(flow.Place(t)));
        }
    }

    private void Add(string input, int end, string output, BlockKind kind, BlockRegion region)
    {
        if (!seen.Add((input, output)))
            return;
        (region, output) = WithTail(input, end, output, region);
        var (dying, constants) = region.Dying();
        var lengths = new List<string>();
        foreach (var value in region.Nodes.SelectMany(n => n.Output).Where(o => o.Length > 0 && o != output))
        foreach (var reader in facts.Index.OwnConsumers(value).Where(n => !dying.Contains(flow.Place(n))))
            if (SameShape(input, value))
                lengths.Add(reader.Output[0]);
            else
            {
                if (kind == BlockKind.Residual)
                    refused.Add(new RefusedBlock(input, output, $"lengths of '{value}' from inside it are read behind it"));
                return;
            }
        found.Add(
            new GraphBlock(input, output, kind, kind == BlockKind.Residual ? BlockShape.Role(region, flow) : BlockRole.Other)
            {
                Nodes = [.. dying.Select(i => flow.Nodes[i])],
                Constants = constants,
                Axis = BlockShape.Axis(region, facts.Shape(input)!.Count),
                Lengths = lengths,
            }
        );
    }

    // The last node behind the block that is like the one its input comes from, with no layer on the way.
    private (BlockRegion Region, string Output) WithTail(string input, int end, string output, BlockRegion region)
    {
        if (facts.Index.Producer(input) is not { } model)
            return (region, output);
        var (best, tail) = ((region, output), new BlockRegion(output, flow, facts.Index));
        var whole = region;
        IEnumerable<string> from = [output];
        foreach (var next in ends.Of(end))
        {
            if (!tail.Grow(from, next) || tail.HasLayer || tail.HasSubgraphs || tail.HasOtherInputs)
                break;
            whole = whole.Copy();
            whole.Grow(from, next);
            if (OutputOf(next, input) is { } behind && BlockShape.IsLike(flow.Nodes[next], model, flow))
                best = (whole, behind);
            from = flow.Nodes[next].Output;
        }
        return best;
    }

    // Behind what keeps its shape the block begins as well, and is the smaller.
    private bool IsWorthListing(string input, BlockKind kind, BlockRegion region)
    {
        if (kind != BlockKind.Plain)
            return true;
        if (region.Places.Count > MostPlain)
            return false;
        var takers = flow.Takers(input).ToList();
        return takers is not [var only] || BlockShape.IsLayer(only, facts.Index) || OutputOf(flow.Place(only), input) is null;
    }

    private string? OutputOf(int node, string like) =>
        flow.Live(flow.Nodes[node]).ToList() is [var output] && SameShape(like, output) ? output : null;

    private bool SameShape(string a, string b) =>
        a != b
        && facts.Of(a) is { Type: not DataType.Undefined, Shape: { } x } of
        && facts.Of(b) is { Shape: { } y } other
        && DataTypes.IsWeightType((int)of.Type)
        && of.Type == other.Type
        && x.SequenceEqual(y);

    private static IEnumerable<GraphBlock> Layers(IReadOnlyList<GraphBlock> blocks)
    {
        var mlps = blocks.Where(b => b.Role == BlockRole.Mlp).ToLookup(b => b.Input, StringComparer.Ordinal);
        foreach (var attention in blocks.Where(b => b.Role == BlockRole.Attention))
            if (mlps[attention.Output].FirstOrDefault() is { } mlp)
                yield return new GraphBlock(attention.Input, mlp.Output, BlockKind.Residual, BlockRole.Layer)
                {
                    Nodes = [.. attention.Nodes, .. mlp.Nodes],
                    Constants = [.. attention.Constants, .. mlp.Constants],
                    Axis = attention.Axis,
                    Lengths = [.. attention.Lengths, .. mlp.Lengths],
                };
    }
}
