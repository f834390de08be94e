using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>Leaves blocks out of a model's main graph.</summary>
public static class BlockRemoval
{
    /// <summary>
    /// Whatever takes the output of a block takes its input instead; nodes and constants that nothing uses any more go. Where the output is
    /// one of the graph, or a subgraph hides the input's name, a copy of the input has its name.
    /// </summary>
    /// <param name="model">The model, or a copy of it; changed in place.</param>
    /// <param name="blocks">Blocks of the model (<see cref="GraphBlocks"/>), no two of which overlap.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static void Remove(ModelProto model, IReadOnlyList<GraphBlock> blocks, CancellationToken cancellation)
    {
        var edit = new ModelEdit(model);
        var main = edit.Roots[0];
        var inputs = blocks.ToDictionary(b => b.Output, b => b.Input, StringComparer.Ordinal);
        foreach (var block in blocks)
        foreach (var reader in block.Lengths)
            main.Index.Producer(reader)!.Input[0] = Source(block.Input);
        var moves = blocks.ToDictionary(b => b.Output, b => Source(b.Input), StringComparer.Ordinal);
        var producers = moves.Values.Distinct().ToDictionary(v => v, v => main.Index.Producer(v), StringComparer.Ordinal);
        foreach (var output in ModelEdit.Redirect(main, moves))
        {
            var made = main.Nodes.Single(n => n.Output.Contains(output));
            made.Output[made.Output.IndexOf(output)] = edit.FreshName(output + "_left");
            ModelEdit.InsertAfter(main, producers[moves[output]], [ModelEdit.Node("Identity", [moves[output]], [output])]);
        }
        main.Forget();
        edit.DropDead(cancellation);
        var left = main.Nodes.SelectMany(n => n.Output).ToHashSet(StringComparer.Ordinal);
        var declared = model.Graph.ValueInfo.Where(v => left.Contains(v.Name)).ToList();
        model.Graph.ValueInfo.Clear();
        model.Graph.ValueInfo.AddRange(declared);

        string Source(string value)
        {
            while (inputs.TryGetValue(value, out var before))
                value = before;
            return value;
        }
    }
}
