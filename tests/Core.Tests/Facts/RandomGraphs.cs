using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Random graphs of the blocks that networks are made of.</summary>
internal sealed class RandomGraphs
{
    private const long Batch = 2,
        Pixels = 4,
        Heads = 4,
        HeadLength = 3;
    private readonly GraphBuilder g;
    private readonly Random random;

    private RandomGraphs(GraphBuilder g) => (this.g, random) = (g, g.Random);

    /// <summary>A graph that takes <c>x</c>, [2, 3, 4, 4], and the truth <c>c</c>.</summary>
    public static GraphBuilder Build(int seed)
    {
        var random = new Random(seed);
        var g = new GraphBuilder(11 + random.Next(11), random);
        new RandomGraphs(g).Fill();
        return g;
    }

    private void Fill()
    {
        object batch = random.Next(2) == 0 ? "N" : Batch;
        object pixels = random.Next(3) == 0 ? "H" : Pixels;
        var x = g.Input("x", DataType.Float, [batch, 3, pixels, Pixels], Batch, 3, Pixels, Pixels);
        g.Input("c", DataType.Bool, []);
        x = g.Conv(x, 8, 3);
        for (var blocks = 1 + random.Next(5); blocks > 0; blocks--)
            x = Block(x);
        g.Output(g.Conv(x, 2));
        if (random.Next(2) == 0)
        {
            var tokens = Tokens(x);
            for (var blocks = 1 + random.Next(3); blocks > 0; blocks--)
                tokens = TokenBlock(tokens);
            g.Output(g.MatMul(tokens, 2));
        }
        else
        {
            var pooled = g.Node("GlobalAveragePool", [Batch, x.Channels, 1, 1], [x.Name]);
            var flat = g.Node("Flatten", [Batch, x.Channels], [pooled.Name]);
            g.Output(Gemm(flat, 5));
        }
    }

    private Built Gemm(Built x, long outputs)
    {
        var turned = random.Next(2) == 0;
        var w = turned ? g.Weight(outputs, x.Shape[1]) : g.Weight(x.Shape[1], outputs);
        return g.Node(
            "Gemm",
            [x.Shape[0], outputs],
            [x.Name, w.Name, g.Weight(outputs).Name],
            ModelEdit.Attribute("transB", turned ? 1L : 0)
        );
    }

    private Built Activated(Built x) =>
        random.Next(9) switch
        {
            0 => g.Unary("Sigmoid", x),
            1 => g.Unary("LeakyRelu", x),
            2 => g.Unary("Tanh", x),
            3 => g.Node("PRelu", x.Shape, [x.Name, g.Weight(x.Channels, 1, 1).Name]),
            4 => g.Node("Clip", x.Shape, [x.Name, g.Constant([-1f]).Name, g.Constant([6f]).Name]),
            5 => g.Binary("Mul", x, g.Unary("HardSigmoid", x)),
            6 => g.Binary("Add", g.Binary("Mul", x, g.Weight(x.Channels, 1, 1)), g.Weight(1, x.Channels, 1, 1)),
            _ => g.Unary("Relu", x),
        };

    private Built Block(Built x)
    {
        switch (random.Next(17))
        {
            case 0:
                return Activated(g.Conv(x, 4 * (1 + random.Next(4)), 3));
            case 1:
                return g.Binary("Add", x, g.Conv(Activated(g.Conv(x, 6, 3)), x.Channels, bias: random.Next(2) == 0));
            case 2:
                return Activated(g.Conv(x, x.Channels, 3, x.Channels));
            case 3:
                return Activated(g.Conv(x, x.Channels * 2, 3, x.Channels));
            case 4:
                return Activated(g.Conv(g.Conv(x, 8), 12, 1, 4));
            case 5:
            {
                var gate = g.Node("GlobalAveragePool", [Batch, x.Channels, 1, 1], [x.Name]);
                gate = g.Conv(g.Unary("Relu", g.Conv(gate, 4)), x.Channels);
                return g.Binary("Mul", x, g.Unary("Sigmoid", gate));
            }
            case 6:
                return g.Concat(1, x, Activated(g.Conv(x, 5)), g.Conv(x, 4, 3));
            case 7:
            {
                var wide = g.Conv(x, 12);
                var parts = random.Next(2) == 0 ? g.Split(wide, 1, 6, 6) : g.Split(wide, 1, 3, 9);
                return g.Concat(1, Activated(parts[1]), parts[0]);
            }
            case 8:
            {
                var halves = g.Split(g.Conv(x, 12), 1, 6, 6);
                return g.Binary("Mul", halves[0], g.Unary("Sigmoid", halves[1]));
            }
            case 9:
            {
                var wide = g.Conv(x, 12);
                var shuffled = g.Transpose(g.Reshape(wide, Batch, 3, 4, Pixels, Pixels), 0, 2, 1, 3, 4);
                return g.Conv(g.Reshape(shuffled, Batch, 12, Pixels, Pixels), 8, 1, 4);
            }
            case 10:
                return Normalized(g.Conv(x, 8, bias: false));
            case 11:
            {
                var (channels, outer) = (x.Channels, x);
                return g.If("c", b => b.Conv(outer, channels, 3), b => b.Unary("Relu", b.Conv(outer, channels)));
            }
            case 12:
            {
                var wide = g.Conv(x, 10);
                return g.Binary("Add", g.Slice(wide, 1, 0, 5), g.Slice(wide, 1, 5, 10));
            }
            case 13:
            {
                var w = g.Weight(x.Channels, 6, 1, 1);
                return g.Node("ConvTranspose", [Batch, 6, Pixels, Pixels], [x.Name, w.Name, g.Weight(6).Name]);
            }
            case 14:
            {
                var pooled = g.Node(
                    "MaxPool",
                    x.Shape,
                    [x.Name],
                    ModelEdit.Attribute("kernel_shape", [3L, 3]),
                    ModelEdit.Attribute("pads", [1L, 1, 1, 1])
                );
                return g.Concat(1, pooled, x);
            }
            case 15:
            {
                var wide = g.Conv(x, 8);
                var weight = g.Weight(8, 3, 1, 1);
                return g.Node("ConvTranspose", [Batch, 12, Pixels, Pixels], [wide.Name, weight.Name], ModelEdit.Attribute("group", 4L));
            }
            default:
            {
                var padded = g.Node("Pad", [Batch, x.Channels + 3, Pixels, Pixels], [x.Name, g.Ints(0, 1, 0, 0, 0, 2, 0, 0)]);
                return g.Conv(padded, 7);
            }
        }
    }

    private Built Normalized(Built x)
    {
        switch (random.Next(3))
        {
            case 0:
                return g.Node(
                    "BatchNormalization",
                    x.Shape,
                    [x.Name, g.Weight(x.Channels).Name, g.Weight(x.Channels).Name, g.Weight(x.Channels).Name, g.Positive(x.Channels).Name]
                );
            case 1:
                return g.Node("InstanceNormalization", x.Shape, [x.Name, g.Weight(x.Channels).Name, g.Weight(x.Channels).Name]);
            default:
            {
                // As PyTorch exports a normalization of groups.
                var groups = g.Node("Reshape", [Batch, 2, x.Channels / 2 * Pixels * Pixels], [x.Name, g.Ints(0, 2, -1)]);
                var normal = g.Node("InstanceNormalization", groups.Shape, [groups.Name, g.Positive(2).Name, g.Weight(2).Name]);
                var shape = g.Node("Shape", [4], [x.Name]);
                var back = g.Node("Reshape", x.Shape, [normal.Name, shape.Name]);
                return g.Binary("Add", g.Binary("Mul", back, g.Weight(x.Channels, 1, 1)), g.Weight(x.Channels, 1, 1));
            }
        }
    }

    private Built Tokens(Built x) => g.Transpose(g.Reshape(x, Batch, x.Channels, Pixels * Pixels), 0, 2, 1);

    private Built TokenBlock(Built x)
    {
        var width = x.Shape[2];
        switch (random.Next(8))
        {
            case 0:
                return g.Binary("Add", x, g.MatMul(g.Unary("Relu", g.MatMul(x, 10)), width));
            case 1:
            {
                var halves = g.Split(g.MatMul(x, 12), 2, 6, 6);
                return g.MatMul(g.Binary("Mul", halves[0], g.Unary("Sigmoid", halves[1])), width);
            }
            case 2:
                return g.Binary("Add", x, Attention(x));
            case 3:
                return g.Binary("Add", x, PackedAttention(x));
            case 4:
                return g.Binary("Add", x, GroupedAttention(x));
            case 5:
                return Recurrent(x);
            case 6:
            {
                var mean = g.ReduceMean(x, 2, keep: true);
                return g.Binary("Mul", g.Binary("Sub", x, mean), g.Weight(width));
            }
            default:
            {
                var inner = g.MatMul(x, 9);
                if (g.Opset < 12)
                    return g.MatMul(inner, 6);
                return g.Node("Einsum", [Batch, x.Shape[1], 6], [inner.Name, g.Weight(9, 6).Name], Equation("btd,de->bte"));
            }
        }
    }

    private static Core.Model.Schema.AttributeProto Equation(string text) =>
        new()
        {
            Name = "equation",
            Type = Core.Model.Schema.AttributeProto.Types.AttributeType.String,
            S = Google.Protobuf.ByteString.CopyFromUtf8(text),
        };

    private Built ToHeads(Built x, long heads) => g.Transpose(g.Reshape(x, Batch, x.Shape[1], heads, x.Shape[2] / heads), 0, 2, 1, 3);

    private Built Attend(Built q, Built k, Built v)
    {
        var scores = g.Node("MatMul", [Batch, Heads, q.Shape[2], k.Shape[2]], [q.Name, g.Transpose(k, 0, 1, 3, 2).Name]);
        var weights = g.Softmax(g.Binary("Mul", scores, g.Constant([0.5f])));
        var mixed = g.Node("MatMul", [Batch, Heads, q.Shape[2], v.Shape[3]], [weights.Name, v.Name]);
        return g.Reshape(g.Transpose(mixed, 0, 2, 1, 3), Batch, q.Shape[2], Heads * v.Shape[3]);
    }

    private Built Attention(Built x) =>
        g.MatMul(
            Attend(
                ToHeads(g.MatMul(x, Heads * HeadLength), Heads),
                ToHeads(g.MatMul(x, Heads * HeadLength), Heads),
                ToHeads(g.MatMul(x, Heads * 2), Heads)
            ),
            x.Shape[2]
        );

    // One product for query, key and value, as vision transformers have it.
    private Built PackedAttention(Built x)
    {
        var packed = g.Reshape(g.MatMul(x, 3 * Heads * HeadLength), Batch, x.Shape[1], 3, Heads, HeadLength);
        var turned = g.Transpose(packed, 2, 0, 3, 1, 4);
        Built Part(long i) =>
            g.Node("Gather", [Batch, Heads, x.Shape[1], HeadLength], [turned.Name, g.Scalar(i)], ModelEdit.Attribute("axis", 0L));
        return g.MatMul(Attend(Part(0), Part(1), Part(-1)), x.Shape[2]);
    }

    // Two heads of keys and values for four of queries (Ainslie et al. 2023, "GQA").
    private Built GroupedAttention(Built x)
    {
        var q = ToHeads(g.MatMul(x, Heads * HeadLength), Heads);
        Built Repeated(Built kv)
        {
            var wide = g.Unsqueeze(ToHeads(kv, 2), 2);
            var expanded = g.Node("Expand", [Batch, 2, 2, x.Shape[1], HeadLength], [wide.Name, g.Ints(1, 2, 2, 1, HeadLength)]);
            return g.Reshape(expanded, Batch, Heads, x.Shape[1], HeadLength);
        }
        return g.MatMul(Attend(q, Repeated(g.MatMul(x, 2 * HeadLength)), Repeated(g.MatMul(x, 2 * HeadLength))), x.Shape[2]);
    }

    private Built Recurrent(Built x)
    {
        var (op, gates) = random.Next(2) == 0 ? ("LSTM", 4L) : ("GRU", 3L);
        var (hidden, both) = (5L, random.Next(2));
        var directions = 1L + both;
        var steps = g.Transpose(x, 1, 0, 2);
        var y = g.Node(
            op,
            [x.Shape[1], directions, Batch, hidden],
            [
                steps.Name,
                g.Weight(directions, gates * hidden, x.Shape[2]).Name,
                g.Weight(directions, gates * hidden, hidden).Name,
                g.Weight(directions, 2 * gates * hidden).Name,
            ],
            [ModelEdit.Attribute("hidden_size", hidden), .. both == 1 ? [Direction()] : Array.Empty<Core.Model.Schema.AttributeProto>()]
        );
        if (both == 0)
            return g.Transpose(g.Squeeze(y, 1), 1, 0, 2);
        var byBatch = g.Transpose(y, 2, 0, 1, 3);
        return g.Reshape(byBatch, Batch, x.Shape[1], 2 * hidden);
    }

    private static Core.Model.Schema.AttributeProto Direction() =>
        new()
        {
            Name = "direction",
            Type = Core.Model.Schema.AttributeProto.Types.AttributeType.String,
            S = Google.Protobuf.ByteString.CopyFromUtf8("bidirectional"),
        };
}
