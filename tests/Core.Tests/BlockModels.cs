using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.TestSupport;

/// <summary>Models with a block whose branch adds nothing, so that the outputs stay as they are where the block is left out.</summary>
internal static class BlockModels
{
    private const int C = 8;

    /// <summary>x = Relu(…); Relu(x + conv(Relu(conv(x)))), as ResNet has it.</summary>
    public static ModelProto ResNet() =>
        Images()
            .Zeros("c", C, C, 3, 3)
            .Weight("b", C, C, 3, 3)
            .With(
                Node("Relu", ["s"], ["x0"]),
                Conv("x0", "b", "h1", 1),
                Node("Relu", ["h1"], ["h2"]),
                Conv("h2", "c", "h3", 1),
                Node("Add", ["h3", "x0"], ["h4"]),
                Node("Relu", ["h4"], ["y0"])
            )
            .Head("y0");

    /// <summary>An inverted residual: expand, depthwise, project.</summary>
    public static ModelProto InvertedResidual() =>
        Images()
            .Weight("e", 2 * C, C, 1, 1)
            .Weight("d", 2 * C, 1, 3, 3)
            .Zeros("p", C, 2 * C, 1, 1)
            .With(
                Conv("s", "e", "h1"),
                Node("HardSwish", ["h1"], ["h2"]),
                Node("Conv", ["h2", "d"], ["h3"], ModelEdit.Attribute("group", 2L * C), ModelEdit.Attribute("pads", 1, 1, 1, 1)),
                Node("HardSwish", ["h3"], ["h4"]),
                Conv("h4", "p", "h5"),
                Node("Add", ["s", "h5"], ["y0"])
            )
            .Head("y0");

    /// <summary>A sum past Identity and Dropout, of a value that the graph puts out too.</summary>
    public static ModelProto Tapped() =>
        Images()
            .Zeros("c", C, C, 3, 3)
            .With(Conv("s", "c", "h1", 1), Node("Identity", ["s"], ["i"]), Node("Dropout", ["i"], ["d"]), Node("Sum", ["d", "h1"], ["y0"]))
            .Head("y0")
            .Output("s");

    /// <summary>Two blocks in a row, the second's output being the graph's.</summary>
    public static ModelProto AtTheEnd() =>
        Images()
            .Zeros("b", C, C, 3, 3)
            .Zeros("c", C, C, 3, 3)
            .With(Conv("s", "b", "h1", 1), Node("Add", ["s", "h1"], ["y0"]), Conv("y0", "c", "h2", 1), Node("Add", ["h2", "y0"], ["y"]))
            .Output("y");

    /// <summary>Half of the channels goes past a convolution that makes them as they are.</summary>
    public static ModelProto Split()
    {
        var model = Images()
            .Identity("c", C / 2)
            .With(
                Node("Split", ["s", "halves"], ["l", "r"], ModelEdit.Attribute("axis", 1L)),
                Conv("r", "c", "h1"),
                Node("Concat", ["l", "h1"], ["y0"], ModelEdit.Attribute("axis", 1L))
            )
            .Head("y0");
        return model.Numbers("halves", C / 2, C / 2);
    }

    /// <summary>As <see cref="Split"/>, between channel shuffles; nothing is the same without it, but its shape.</summary>
    public static ModelProto Shuffled()
    {
        var model = Images();
        Shuffle(model, "s", "x0");
        model
            .Weight("c", C / 2, C / 2, 1, 1)
            .With(
                Node("Split", ["x0", "halves"], ["l", "r"], ModelEdit.Attribute("axis", 1L)),
                Conv("r", "c", "h1"),
                Node("Concat", ["l", "h1"], ["z"], ModelEdit.Attribute("axis", 1L))
            );
        Shuffle(model, "z", "y0");
        return model.Head("y0").Numbers("halves", C / 2, C / 2).Numbers("apart", 0, 2, C / 2, -1).Numbers("joined", 0, C, 6, 6);
    }

    /// <summary>A gate that is open: squeeze and excitation.</summary>
    public static ModelProto Gate()
    {
        var bias = Enumerable.Repeat(100f, C).ToArray();
        return Images()
            .Weight("c", C, C, 1, 1)
            .Initializer(Tensor("b", bias, C))
            .With(
                Node("GlobalAveragePool", ["s"], ["g"]),
                Node("Conv", ["g", "c", "b"], ["h1"]),
                Node("HardSigmoid", ["h1"], ["h2"]),
                Node("Mul", ["s", "h2"], ["y0"])
            )
            .Head("y0");
    }

    /// <summary>A layer that puts out what it takes.</summary>
    public static ModelProto Plain() =>
        Images().Identity("c", C).With(Node("Relu", ["s"], ["x0"]), Conv("x0", "c", "h1"), Node("Relu", ["h1"], ["y0"])).Head("y0");

    /// <summary>A transformer's layer with dynamic lengths, its normalization in front of each branch or behind each sum.</summary>
    public static ModelProto Transformer(bool normalizedFirst, bool computesLengths = true)
    {
        var model = OfOpset(17)
            .Input("x", DataType.Float, "batch", "sequence", 16)
            .Input("mask", DataType.Float, "batch", 1, 1, "sequence")
            .Weight("w0", 16, 16)
            .With(Node("MatMul", ["x", "w0"], ["e"]));
        foreach (var n in new[] { "n0", "n1", "n2" })
            model.Initializer(Tensor(n + "s", [.. Enumerable.Repeat(1f, 16)], 16)).Initializer(Tensor(n + "b", new float[16], 16));
        var x0 = normalizedFirst ? "e" : Norm(model, "e", "n0");
        var x1 = Residual(x0, "n1", i => Attention(model, i, computesLengths));
        var x2 = Residual(x1, "n2", i => Mlp(model, i));
        return model.Weight("w9", 16, 4).With(Node("MatMul", [x2, "w9"], ["y"])).Output("y");

        string Residual(string input, string norm, Func<string, string> branch)
        {
            var made = branch(normalizedFirst ? Norm(model, input, norm) : input);
            model.With(Node("Add", [input, made], [norm + "_sum"]));
            return normalizedFirst ? norm + "_sum" : Norm(model, norm + "_sum", norm);
        }
    }

    private static string Attention(ModelProto model, string input, bool computesLengths)
    {
        model.Weight("q", 16, 16).Weight("k", 16, 16).Weight("v", 16, 16).Zeros("o", 16, 16).Numbers("apart", 0, 0, 4, 4);
        foreach (var w in new[] { "q", "k", "v" })
            model.With(
                Node("MatMul", [input, w], [w + "1"]),
                Node("Reshape", [w + "1", "apart"], [w + "2"]),
                Node("Transpose", [w + "2"], [w + "3"], ModelEdit.Attribute("perm", w == "k" ? [0, 2, 3, 1] : [0, 2, 1, 3]))
            );
        var target = "joined";
        if (computesLengths)
        {
            target = "lengths";
            model.With(Node("Shape", [input], ["lengths"]));
        }
        else
            model.Numbers("joined", 0, 0, 16);
        model.With(
            Node("MatMul", ["q3", "k3"], ["a1"]),
            Node("Add", ["a1", "mask"], ["a2"]),
            Node("Softmax", ["a2"], ["a3"], ModelEdit.Attribute("axis", -1L)),
            Node("MatMul", ["a3", "v3"], ["a4"]),
            Node("Transpose", ["a4"], ["a5"], ModelEdit.Attribute("perm", 0, 2, 1, 3)),
            Node("Reshape", ["a5", target], ["a6"]),
            Node("MatMul", ["a6", "o"], ["a7"])
        );
        return "a7";
    }

    private static string Mlp(ModelProto model, string input)
    {
        model
            .Weight("m1", 16, 32)
            .Zeros("m2", 32, 16)
            .With(Node("MatMul", [input, "m1"], ["f1"]), Node("Tanh", ["f1"], ["f2"]), Node("MatMul", ["f2", "m2"], ["f3"]));
        return "f3";
    }

    private static string Norm(ModelProto model, string input, string name)
    {
        model.With(Node("LayerNormalization", [input, name + "s", name + "b"], [name + "_out"], ModelEdit.Attribute("epsilon", 1e-12f)));
        return name + "_out";
    }

    private static void Shuffle(ModelProto model, string from, string to) =>
        model.With(
            Node("Reshape", [from, "apart"], [to + "_1"]),
            Node("Transpose", [to + "_1"], [to + "_2"], ModelEdit.Attribute("perm", 0, 2, 1, 3)),
            Node("Reshape", [to + "_2", "joined"], [to])
        );

    private static ModelProto Images() =>
        OfOpset(17).Input("x", DataType.Float, "n", 3, 6, 6).Weight("stem", C, 3, 3, 3).With(Conv("x", "stem", "s", 1));

    private static ModelProto Head(this ModelProto model, string from) =>
        model.Weight("head", 4, C, 1, 1).With(Conv(from, "head", "y")).Output("y");

    private static ModelProto Zeros(this ModelProto model, string name, params long[] dims) =>
        model.Initializer(Tensor(name, new float[dims.Aggregate(1L, (a, b) => a * b)], dims));

    private static ModelProto Identity(this ModelProto model, string name, int channels) =>
        model.Initializer(
            Tensor(
                name,
                [.. Enumerable.Range(0, channels * channels).Select(i => i % (channels + 1) == 0 ? 1f : 0)],
                channels,
                channels,
                1,
                1
            )
        );

    private static ModelProto Numbers(this ModelProto model, string name, params long[] values) =>
        model.Initializer(Tensor(name, DataType.Int64, MemoryMarshal.AsBytes<long>(values), values.Length));

    private static NodeProto Conv(string x, string w, string y, long pad = 0) =>
        Node("Conv", [x, w], [y], ModelEdit.Attribute("pads", pad, pad, pad, pad));
}
