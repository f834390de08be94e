using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>An initializer or the tensor of a Constant node, which no caller can override and no graph puts out.</summary>
/// <param name="Scope">Where it is defined.</param>
/// <param name="Name">The name that its uses refer to.</param>
/// <param name="Tensor">The tensor.</param>
/// <param name="Node">The Constant node, or null for an initializer.</param>
internal sealed record StoredConstant(GraphScope Scope, string Name, TensorProto Tensor, NodeProto? Node)
{
    /// <summary>Bytes of its elements.</summary>
    public long Bytes => TensorRef.From(Tensor, Name).Length;

    /// <summary>The constants of a root scope and those inside it, in the order of the file.</summary>
    public static IReadOnlyList<StoredConstant> Of(GraphScope root)
    {
        var scopes = root.All().ToList();
        var outputs = scopes
            .SelectMany(s => (s.Graph?.Output.Select(o => o.Name) ?? s.Function!.Output).Select(name => (Home: s.Resolve(name), name)))
            .ToHashSet();
        return
        [
            .. scopes
                .SelectMany(s =>
                    s.Constants.Select(t => new StoredConstant(s, t.Name, t, null))
                        .Concat(
                            s.Nodes.Where(n => n is { OpType: "Constant", Output.Count: 1, Attribute: [{ Name: "value", T: not null }] })
                                .Select(n => new StoredConstant(s, n.Output[0], n.Attribute[0].T, n))
                        )
                )
                .Where(c => !outputs.Contains((c.Scope, c.Name))),
        ];
    }

    /// <summary>Lets one constant stand for several of the same root; where they lie in different scopes it moves to the root.</summary>
    /// <param name="edit">The edit.</param>
    /// <param name="same">The constants; the first is kept.</param>
    /// <returns>The name of the one that is left.</returns>
    public static string Merge(ModelEdit edit, IReadOnlyList<StoredConstant> same)
    {
        var (first, root) = (same[0], ModelEdit.Outermost(same[0].Scope));
        var stays = same.All(c => c.Scope == first.Scope) && !first.Scope.All().Skip(1).Any(s => s.Defines(first.Name));
        var kept = stays ? first.Name : edit.AddConstant(root, first.Name, first.Tensor.Clone());
        foreach (var constant in stays ? same.Skip(1) : same)
        {
            foreach (var scope in constant.Scope.All())
            foreach (var node in scope.Nodes)
                for (var i = 0; i < node.Input.Count; i++)
                    if (node.Input[i] == constant.Name && scope.Resolve(constant.Name) == constant.Scope)
                        node.Input[i] = kept;
            if (constant.Node is { } node1)
                constant.Scope.Edit(l => l.Replace(node1, []));
            else
                constant.Scope.Remove(constant.Tensor);
        }
        return kept;
    }
}
