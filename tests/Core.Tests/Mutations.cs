using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.TestSupport;

/// <summary>Damages a model: cut short, bits flipped, pieces repeated, or the graph made wrong behind a whole wire format.</summary>
internal static class Mutations
{
    public static byte[] Mutate(byte[] seed, Random random)
    {
        var kind = random.Next(5);
        return kind == 4 ? Graphwise(ModelProto.Parser.ParseFrom(seed), random).ToByteArray() : Damage(seed, kind, random);
    }

    /// <summary>Damages the bytes alone.</summary>
    /// <param name="seed">The file.</param>
    /// <param name="kind">0: cut short; 1: bits flipped; 2: bytes replaced; 3: a piece repeated elsewhere.</param>
    /// <param name="random">Chooses the places.</param>
    public static byte[] Damage(byte[] seed, int kind, Random random)
    {
        var bytes = seed.ToArray();
        switch (kind)
        {
            case 0:
                return bytes[..random.Next(bytes.Length)];
            case 1:
                for (var n = 1 + random.Next(8); n > 0; n--)
                    bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
                return bytes;
            case 2:
                for (var n = 1 + random.Next(4); n > 0; n--)
                    bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
                return bytes;
            default:
                var (from, length, to) = (random.Next(bytes.Length), random.Next(200), random.Next(bytes.Length));
                var piece = bytes[from..Math.Min(bytes.Length, from + length)];
                return [.. bytes[..to], .. piece, .. bytes[to..]];
        }
    }

    // Mutations that keep the wire format whole, so that they reach what lies behind it.
    private static ModelProto Graphwise(ModelProto model, Random random)
    {
        var graph = model.Graph;
        for (var n = 1 + random.Next(3); n > 0; n--)
        {
            var node = graph.Node[random.Next(graph.Node.Count)];
            var tensor = graph.Initializer[random.Next(graph.Initializer.Count)];
            switch (random.Next(10))
            {
                case 0:
                    tensor.Dims[random.Next(tensor.Dims.Count)] = random.NextInt64(-2, 1L << random.Next(62));
                    break;
                case 1:
                    tensor.DataType = random.Next(30);
                    break;
                case 2:
                    TensorRef.Point(
                        tensor,
                        new[] { "../x", "m.onnx", "/etc/passwd", "none.bin", "" }[random.Next(5)],
                        random.NextInt64(-10, 1 << 20),
                        random.NextInt64(-10, 1 << 20)
                    );
                    break;
                case 3:
                    if (node.Input.Count > 0)
                        node.Input[random.Next(node.Input.Count)] = graph.Node[random.Next(graph.Node.Count)].Output.FirstOrDefault() ?? "";
                    break;
                case 4:
                    node.OpType = new[] { "Transpose", "Concat", "Constant", "If", "MatMul", "BatchNormalization" }[random.Next(6)];
                    break;
                case 5:
                    graph.Node.Add(node.Clone());
                    break;
                case 6:
                    if (node.Attribute.Count > 0)
                        node.Attribute.RemoveAt(random.Next(node.Attribute.Count));
                    break;
                case 7:
                    node.Output.Clear();
                    break;
                case 8:
                    graph.Initializer.Add(tensor.Clone());
                    break;
                default:
                    tensor.RawData = ByteString.CopyFrom(new byte[random.Next(400)]);
                    break;
            }
        }
        return model;
    }

    /// <summary>A small model with a weight in every kind of place.</summary>
    public static ModelProto Everything(int opset)
    {
        var then = new GraphProto { Name = "then" };
        then.Node.Add(
            Node(
                "Constant",
                [],
                ["inner"],
                new AttributeProto
                {
                    Name = "value",
                    Type = AttributeProto.Types.AttributeType.Tensor,
                    T = Tensor("", Random("inner", 12, 12), 12, 12),
                }
            )
        );
        then.Node.Add(Node("MatMul", ["m", "inner"], ["then_y"]));
        then.Output.Add(Value("then_y", DataType.Float));
        var other = new GraphProto { Name = "else" };
        other.Node.Add(Node("MatMul", ["m", "w"], ["else_y"]));
        other.Output.Add(Value("else_y", DataType.Float));
        return OfOpset(opset)
            .Input("x", DataType.Float, 1, 4, 6, 6)
            .Input("c", DataType.Bool)
            .Weight("k", 6, 4, 3, 3)
            .Weight("b", 6)
            .Weight("g", 6)
            .Weight("h", 6)
            .Weight("u", 6)
            .Weight("v", 6)
            .Weight("w", 12, 12)
            .Weight("f", 96, 12)
            .Weight("e", 20, 16)
            .Initializer(Tensor("ids", DataType.Int64, System.Runtime.InteropServices.MemoryMarshal.AsBytes<long>(new long[] { 1, 2 }), 2))
            .With(
                Node("Conv", ["x", "k", "b"], ["p"]),
                Node("BatchNormalization", ["p", "g", "h", "u", "v"], ["q"]),
                Node("Flatten", ["q"], ["r"]),
                Node("Gemm", ["r", "f"], ["m"]),
                Node("If", ["c"], ["s"], Subgraph("then_branch", then), Subgraph("else_branch", other)),
                Node("Gather", ["e", "ids"], ["t"]),
                Node("Relu", ["t"], ["z"])
            )
            .Output("s")
            .Output("z");
    }
}
