using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// Makes values inside the branches of If visible in the main graph: an output more of both branches and of the node, empty
/// where the other branch was taken. The model is raised to operator set 11 for it. What Loop and Scan repeat cannot be shown so, since
/// its shape may change.
/// </summary>
public static class SubgraphTaps
{
    /// <summary>How a value is called in the main graph once it is lifted; its own name where it is of the main graph.</summary>
    /// <param name="scope">The scope that uses it.</param>
    /// <param name="value">Its name there.</param>
    /// <returns>The name, or null when it cannot be lifted: out of a Loop or Scan, a function, or a branch below operator set 9.</returns>
    public static string? Name(GraphScope scope, string value)
    {
        var home = scope.Resolve(value);
        if (home is null || home.Function is not null || home.Parent is not null && home.Opset < OpsetRaise.Lowest)
            return null;
        var path = "";
        for (var inner = home; inner.Parent is { } outer; inner = outer)
        {
            if (
                inner.Owner is not { OpType: "If", Domain: "" } owner
                || owner.Attribute.FirstOrDefault(a => ReferenceEquals(a.G, inner.Graph)) is not { } branch
            )
                return null;
            // Outputs, unlike nodes, always have names.
            path = $"{owner.Output.FirstOrDefault()}/{branch.Name}/{path}";
        }
        return path.Length == 0 ? value : $"@{path}{value}";
    }

    /// <summary>Lifts the values that are inside branches.</summary>
    /// <param name="model">The model; changed.</param>
    /// <param name="names">Names from <see cref="Name"/>.</param>
    public static void Lift(ModelProto model, IReadOnlySet<string> names)
    {
        if (!names.Any(n => n.StartsWith('@')))
            return;
        // Before operator set 11 both branches have to put out the same shape.
        OpsetRaise.To11(new ModelEdit(model));
        foreach (var scope in GraphScope.Of(model)[0].All().Where(s => s.Parent is not null).ToList())
        {
            foreach (var value in scope.Nodes.SelectMany(n => n.Output).Where(o => o.Length > 0).ToList())
                if (Name(scope, value) is { } name && names.Contains(name))
                    Lift(scope, value, name);
        }
    }

    private static void Lift(GraphScope scope, string value, string name)
    {
        for (var (inner, taken) = (scope, value); inner.Parent is { } outer; (inner, taken) = (outer, name))
        {
            var owner = inner.Owner!;
            foreach (var branch in owner.Attribute.Where(a => a.G is not null))
            {
                // Every branch has a value of that name; different graphs may.
                var shown = outer.Parent is null ? $"{name}/{branch.Name}" : $"{name}/{outer.Path}/{branch.Name}";
                branch.G.Node.Add(
                    ReferenceEquals(branch.G, inner.Graph)
                        ? ModelEdit.Node("Identity", [taken], [shown])
                        : ModelEdit.Node(
                            "Constant",
                            [],
                            [shown],
                            new AttributeProto
                            {
                                Name = "value",
                                Type = AttributeProto.Types.AttributeType.Tensor,
                                T = ModelEdit.Tensor(DataType.Float, [], 0),
                            }
                        )
                );
                branch.G.Output.Add(
                    new ValueInfoProto
                    {
                        Name = shown,
                        Type = new TypeProto { TensorType = new() { ElemType = (int)DataType.Float } },
                    }
                );
            }
            owner.Output.Add(name);
        }
    }
}
