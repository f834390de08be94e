using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using AttributeType = Serverless.Core.Model.Schema.AttributeProto.Types.AttributeType;

namespace Serverless.TestSupport;

/// <summary>Changes to attributes: their values, their kind, their number.</summary>
internal static class AttributeMutations
{
    private static readonly long[] Odd = [0, 1, 2, 3, -1, -2, 7, 1000, int.MaxValue, 1L + int.MaxValue, long.MaxValue, long.MinValue];

    private static readonly Dictionary<string, string[]> Known = new(StringComparer.Ordinal)
    {
        ["Conv"] = ["group", "pads", "strides", "dilations", "kernel_shape", "auto_pad"],
        ["ConvTranspose"] = ["group", "pads", "strides", "output_padding"],
        ["Gemm"] = ["transA", "transB", "alpha", "beta"],
        ["Transpose"] = ["perm"],
        ["BatchNormalization"] = ["epsilon", "training_mode", "momentum"],
        ["LSTM"] = ["hidden_size", "direction", "layout"],
        ["Concat"] = ["axis"],
        ["Gather"] = ["axis"],
        ["Softmax"] = ["axis"],
        ["MaxPool"] = ["kernel_shape", "pads", "strides", "ceil_mode"],
        ["AveragePool"] = ["kernel_shape", "pads", "strides"],
        ["LayerNormalization"] = ["axis", "epsilon"],
        ["Flatten"] = ["axis"],
    };

    public static readonly MutationRecipe[] All =
    [
        new("attribute-dropped", (m, r) => Of(m, r, (n, a) => n.Attribute.Remove(a) ? "" : null)),
        new("attribute-value", (m, r) => Of(m, r, (_, a) => Value(a, r))),
        new("attribute-value-known", (m, r) => Set(m, r)),
        new(
            "attribute-length",
            (m, r) =>
                Of(
                    m,
                    r,
                    (_, a) =>
                    {
                        if (a.Ints.Count == 0)
                            return null;
                        if (r.Next(2) == 0)
                            a.Ints.RemoveAt(0);
                        else
                            a.Ints.Add(r.Of(Odd));
                        return $"[{string.Join(',', a.Ints)}]";
                    }
                )
        ),
        new(
            "attribute-tag",
            (m, r) =>
                Of(
                    m,
                    r,
                    (_, a) =>
                        $"tagged {a.Type = r.Of([AttributeType.Int, AttributeType.Float, AttributeType.Ints, AttributeType.String, AttributeType.Tensor, AttributeType.Graph])}"
                )
        ),
        new(
            "attribute-untagged",
            (m, r) =>
                Of(
                    m,
                    r,
                    (_, a) =>
                    {
                        a.ClearType();
                        return "without type";
                    }
                )
        ),
        new(
            "attribute-twice",
            (m, r) =>
                Of(
                    m,
                    r,
                    (n, a) =>
                    {
                        n.Attribute.Add(a.Clone());
                        return "twice";
                    }
                )
        ),
        new("attribute-unknown", (m, r) => r.Node(m) is { } n ? Add(n, ModelEdit.Attribute("nobody_knows", r.Of(Odd))) : null),
        new("attribute-reference", (m, r) => Of(m, r, (_, a) => $"refers to '{a.RefAttrName = "outer"}'")),
    ];

    private static string? Of(ModelProto model, Random random, Func<NodeProto, AttributeProto, string?> change)
    {
        if (random.Node(model, n => n.Attribute.Count > 0) is not { } node)
            return null;
        var attribute = random.Of(node.Attribute);
        return change(node, attribute) is { } done ? $"{node.OpType} '{node.Output.FirstOrDefault()}' {attribute.Name} {done}" : null;
    }

    private static string Add(NodeProto node, AttributeProto attribute)
    {
        node.Attribute.Add(attribute);
        return node.OpType;
    }

    private static string? Value(AttributeProto a, Random random)
    {
        switch (a.Type)
        {
            case AttributeType.Int:
                return $"{a.I = random.Of(Odd)}";
            case AttributeType.Float:
                return $"{a.F = random.Of([0, -1, 1e30f, 1e-30f, float.NaN, float.PositiveInfinity, 0.5f])}";
            case AttributeType.String:
                return (
                    a.S = ByteString.CopyFromUtf8(
                        random.Of(["", "SAME_UPPER", "SAME_LOWER", "VALID", "reverse", "bidirectional", "nonsense"])
                    )
                ).ToStringUtf8();
            case AttributeType.Ints when a.Ints.Count > 0:
                a.Ints[random.Next(a.Ints.Count)] = random.Of(Odd);
                return $"[{string.Join(',', a.Ints)}]";
            default:
                return null;
        }
    }

    // An attribute that the operator has, there or not, of any kind of value.
    private static string? Set(ModelProto model, Random random)
    {
        if (random.Node(model, n => Known.ContainsKey(n.OpType)) is not { } node)
            return null;
        var name = random.Of(Known[node.OpType]);
        var old = node.Attribute.FirstOrDefault(a => a.Name == name);
        if (old is not null)
            node.Attribute.Remove(old);
        var small = Odd.Where(v => v is > -3 and < 8).ToList();
        var made = name switch
        {
            "alpha" or "beta" or "epsilon" or "momentum" => ModelEdit.Attribute(name, random.Of([0, 0.5f, 2, -1, 1e30f, float.NaN])),
            "auto_pad" => Text(name, random.Of(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "no"])),
            "direction" => Text(name, random.Of(["forward", "reverse", "bidirectional", "no"])),
            "perm" or "pads" or "strides" or "dilations" or "kernel_shape" or "output_padding" => ModelEdit.Attribute(
                name,
                Enumerable.Range(0, random.Next(5)).Select(_ => random.Of(small)).ToArray()
            ),
            _ => ModelEdit.Attribute(name, random.Of<long>(random.Next(3) == 0 ? [.. Odd] : small)),
        };
        node.Attribute.Add(made);
        return $"{node.OpType} '{node.Output.FirstOrDefault()}' {made}";
    }

    private static AttributeProto Text(string name, string value) =>
        new()
        {
            Name = name,
            Type = AttributeType.String,
            S = ByteString.CopyFromUtf8(value),
        };
}
