using System.Runtime.InteropServices;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>A value of a graph under construction, with its shape in the run that the test makes.</summary>
internal sealed record Built(string Name, long[] Shape)
{
    public long Channels => Shape[1];
}

/// <summary>Builds graphs node by node, in the way that the operator set's version asks for.</summary>
internal sealed class GraphBuilder
{
    private readonly GraphBuilder? outer;
    private readonly GraphProto graph;
    private int counter;

    public GraphBuilder(int opset, Random random)
    {
        (Opset, Random) = (opset, random);
        Model = TestModels.OfOpset(opset);
        graph = Model.Graph;
    }

    private GraphBuilder(GraphBuilder outer) =>
        (this.outer, graph, Opset, Random, Model) = (outer, new GraphProto { Name = "b" }, outer.Opset, outer.Random, outer.Model);

    public int Opset { get; }

    public Random Random { get; }

    public ModelProto Model { get; }

    public string Fresh() => outer?.Fresh() ?? $"v{counter++}";

    public Built Input(string name, DataType type, object[] dims, params long[] shape)
    {
        Model.Input(name, type, dims);
        return new Built(name, shape);
    }

    public void Output(Built value) => graph.Output.Add(new ValueInfoProto { Name = value.Name });

    /// <summary>Random weights.</summary>
    public Built Weight(params long[] dims)
    {
        var values = new float[dims.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < values.Length; i++)
            values[i] = (float)(Random.NextDouble() - 0.5);
        return Constant(values, dims);
    }

    public Built Positive(params long[] dims) =>
        Constant([.. Enumerable.Range(0, (int)dims.Aggregate(1L, (a, b) => a * b)).Select(_ => 0.5f + (float)Random.NextDouble())], dims);

    public Built Constant(float[] values, params long[] dims) =>
        Constant(DataType.Float, MemoryMarshal.AsBytes<float>(values).ToArray(), dims);

    public string Ints(params long[] values) =>
        Constant(DataType.Int64, MemoryMarshal.AsBytes<long>(values).ToArray(), [values.Length]).Name;

    public string Scalar(long value) => Constant(DataType.Int64, BitConverter.GetBytes(value), []).Name;

    private Built Constant(DataType type, byte[] bytes, long[] dims)
    {
        var name = Fresh();
        var tensor = new TensorProto { DataType = (int)type, RawData = ByteString.CopyFrom(bytes) };
        tensor.Dims.AddRange(dims);
        if (Random.Next(3) == 0)
            graph.Node.Add(
                ModelEdit.Node(
                    "Constant",
                    [],
                    [name],
                    new AttributeProto
                    {
                        Name = "value",
                        Type = AttributeProto.Types.AttributeType.Tensor,
                        T = tensor,
                    }
                )
            );
        else
        {
            tensor.Name = name;
            graph.Initializer.Add(tensor);
        }
        return new Built(name, dims);
    }

    public Built Node(string op, long[] shape, IEnumerable<string> inputs, params AttributeProto[] attributes) =>
        Nodes(op, [shape], inputs, attributes)[0];

    public Built[] Nodes(string op, long[][] shapes, IEnumerable<string> inputs, params AttributeProto[] attributes)
    {
        var outputs = shapes.Select(s => new Built(Fresh(), s)).ToArray();
        graph.Node.Add(ModelEdit.Node(op, inputs, outputs.Select(o => o.Name), attributes));
        return outputs;
    }

    public Built Unary(string op, Built x, params AttributeProto[] attributes) => Node(op, x.Shape, [x.Name], attributes);

    public Built Binary(string op, Built a, Built b) => Node(op, Wider(a.Shape, b.Shape), [a.Name, b.Name]);

    private static long[] Wider(long[] a, long[] b)
    {
        if (a.Length < b.Length)
            (a, b) = (b, a);
        var shape = a.ToArray();
        for (var i = 1; i <= b.Length; i++)
            shape[^i] = Math.Max(a[^i], b[^i]);
        return shape;
    }

    public Built Conv(Built x, long channels, int kernel = 1, long groups = 1, bool bias = true)
    {
        var w = Weight(channels, x.Channels / groups, kernel, kernel);
        string[] inputs = bias ? [x.Name, w.Name, Weight(channels).Name] : [x.Name, w.Name];
        var pad = kernel / 2;
        return Node(
            "Conv",
            [x.Shape[0], channels, x.Shape[2], x.Shape[3]],
            inputs,
            ModelEdit.Attribute("group", groups),
            ModelEdit.Attribute("kernel_shape", [kernel, kernel]),
            ModelEdit.Attribute("pads", [pad, pad, pad, pad])
        );
    }

    public Built MatMul(Built x, long outputs, bool bias = true)
    {
        var product = Node("MatMul", [.. x.Shape[..^1], outputs], [x.Name, Weight(x.Shape[^1], outputs).Name]);
        return bias ? Binary("Add", product, Weight(outputs)) : product;
    }

    public Built Transpose(Built x, params long[] order) =>
        Node("Transpose", [.. order.Select(a => x.Shape[a])], [x.Name], ModelEdit.Attribute("perm", order));

    /// <summary>A Reshape whose numbers are constants, 0 and −1 where they can be, or computed of a value's own lengths.</summary>
    public Built Reshape(Built x, params long[] shape)
    {
        var asked = shape.ToArray();
        var first = shape[0] == x.Shape[0];
        if (first && Random.Next(2) == 0)
            asked[0] = 0;
        else if (first && Random.Next(2) == 0)
            return Node("Reshape", shape, [x.Name, Computed(x, shape)]);
        if (Random.Next(3) == 0)
            asked[Random.Next(asked.Length)] = -1;
        else if (asked[0] != 0)
            // Where batches are dynamic, their number is what is left.
            asked[0] = -1;
        return Node("Reshape", shape, [x.Name, Ints(asked)]);
    }

    private string Computed(Built x, long[] shape)
    {
        var all = Node("Shape", [x.Shape.Length], [x.Name]);
        var batch = Node("Gather", [1], [all.Name, Ints(0)], ModelEdit.Attribute("axis", 0L));
        return Node("Concat", [shape.Length], [batch.Name, Ints(shape[1..])], ModelEdit.Attribute("axis", 0L)).Name;
    }

    public Built Concat(long axis, params Built[] parts)
    {
        var shape = parts[0].Shape.ToArray();
        shape[axis] = parts.Sum(p => p.Shape[axis]);
        return Node("Concat", shape, parts.Select(p => p.Name), ModelEdit.Attribute("axis", axis));
    }

    public Built[] Split(Built x, long axis, params long[] lengths)
    {
        var shapes = lengths.Select(l => x.Shape.Select((d, i) => i == axis ? l : d).ToArray()).ToArray();
        var even = lengths.Distinct().Count() == 1 && Random.Next(2) == 0;
        var attributes = new List<AttributeProto> { ModelEdit.Attribute("axis", axis) };
        if (even && Opset >= 18)
            attributes.Add(ModelEdit.Attribute("num_outputs", (long)lengths.Length));
        else if (!even && Opset < 13)
            attributes.Add(ModelEdit.Attribute("split", lengths));
        string[] inputs = even || Opset < 13 ? [x.Name] : [x.Name, Ints(lengths)];
        return Nodes("Split", shapes, inputs, [.. attributes]);
    }

    public Built Slice(Built x, long axis, long from, long to)
    {
        var shape = x.Shape.Select((d, i) => i == axis ? to - from : d).ToArray();
        var length = x.Shape[axis];
        var (start, end) = (
            Random.Next(2) == 0 ? from : from - length,
            to == length ? long.MaxValue
            : Random.Next(2) == 0 ? to
            : to - length
        );
        return Node("Slice", shape, [x.Name, Ints(start), Ints(end), Ints(axis)]);
    }

    public Built Squeeze(Built x, long axis) => Axes("Squeeze", x, [.. x.Shape.Where((_, i) => i != axis)], axis);

    public Built Unsqueeze(Built x, long axis) => Axes("Unsqueeze", x, [.. x.Shape[..(int)axis], 1, .. x.Shape[(int)axis..]], axis);

    private Built Axes(string op, Built x, long[] shape, long axis) =>
        Opset >= 13 ? Node(op, shape, [x.Name, Ints(axis)]) : Node(op, shape, [x.Name], ModelEdit.Attribute("axes", [axis]));

    public Built ReduceMean(Built x, long axis, bool keep)
    {
        var shape = keep ? x.Shape.Select((d, i) => i == axis ? 1 : d).ToArray() : [.. x.Shape.Where((_, i) => i != axis)];
        var kept = ModelEdit.Attribute("keepdims", keep ? 1L : 0);
        return Opset >= 18
            ? Node("ReduceMean", shape, [x.Name, Ints(axis)], kept)
            : Node("ReduceMean", shape, [x.Name], ModelEdit.Attribute("axes", [axis]), kept);
    }

    public Built Softmax(Built x) => Unary("Softmax", x, ModelEdit.Attribute("axis", (long)x.Shape.Length - 1));

    /// <summary>An If whose branches each make a value of the same shape.</summary>
    public Built If(string condition, Func<GraphBuilder, Built> then, Func<GraphBuilder, Built> otherwise)
    {
        var (a, b) = (new GraphBuilder(this), new GraphBuilder(this));
        var (x, y) = (then(a), otherwise(b));
        a.Output(x);
        b.Output(y);
        return Node("If", x.Shape, [condition], TestModels.Subgraph("then_branch", a.graph), TestModels.Subgraph("else_branch", b.graph));
    }
}
