using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Shapes of convolutions and pools.</summary>
internal static class WindowShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            ("Conv", n => n.Make(0, n.Type(0), Convolved(n, n.Dims(0), n.Dims(1)))),
            ("com.microsoft.FusedConv", n => n.Make(0, n.Type(0), Convolved(n, n.Dims(0), n.Dims(1)))),
            ("ConvInteger", n => n.Make(0, DataType.Int32, Convolved(n, n.Dims(0), n.Dims(1)))),
            ("QLinearConv", n => n.Make(0, n.Type(7), Convolved(n, n.Dims(0), n.Dims(3)))),
            ("ConvTranspose", n => n.Make(0, n.Type(0), Transposed(n))),
            ("MaxPool", Pool),
            ("AveragePool", Pool),
            ("LpPool", Pool),
            ("GlobalAveragePool", Global),
            ("GlobalMaxPool", Global),
            ("GlobalLpPool", Global),
        ];

    private static IEnumerable<Dim?>? Convolved(InferredNode n, IReadOnlyList<Dim>? x, IReadOnlyList<Dim>? w)
    {
        var rank = x?.Count ?? w?.Count;
        if (rank is not > 2 || w is not null && w.Count != rank)
            return null;
        var shape = new Dim?[rank.Value];
        shape[0] = x?[0];
        shape[1] = w?[0];
        for (var i = 0; i < rank - 2; i++)
            shape[i + 2] = Window(
                n,
                i,
                rank.Value - 2,
                x?[i + 2],
                Kernel(n, i) ?? (w is not null && i + 2 < w.Count ? w[i + 2].Value : null),
                false
            );
        return shape;
    }

    private static long? Kernel(InferredNode n, int i) => n.Node.Ints("kernel_shape") is { } k && i < k.Count ? k[i] : null;

    private static void Pool(InferredNode n)
    {
        var x = n.Dims(0);
        var ceiling = n.Node.Int("ceil_mode", 0) != 0;
        IEnumerable<Dim?>? shape = x is { Count: > 2 }
            ? [x[0], x[1], .. Enumerable.Range(0, x.Count - 2).Select(i => Window(n, i, x.Count - 2, x[i + 2], Kernel(n, i), ceiling))]
            : null;
        n.Make(0, n.Type(0), shape);
        n.Make(1, DataType.Int64, shape);
    }

    private static void Global(InferredNode n) =>
        n.Make(0, n.Type(0), n.Dims(0) is { Count: > 1 } x ? x.Select((d, i) => i < 2 ? d : Dim.One) : null);

    // ⌊(x + pads − ((k − 1)·dilation + 1)) / stride⌋ + 1. Rounded up, the last window may lie in the padding alone, where runtimes differ.
    private static Dim? Window(InferredNode n, int i, int spatial, Dim? x, long? kernel, bool ceiling)
    {
        var stride = At(n, "strides", i, 1);
        switch (n.Node.Text("auto_pad", "NOTSET"))
        {
            case "SAME_UPPER" or "SAME_LOWER":
                return Dim.FloorDivide(Dim.Add(x, Dim.Of(stride - 1)), stride);
            case "VALID" or "NOTSET":
                if (kernel is not { } k)
                    return null;
                var pads = n.Node.Text("auto_pad", "NOTSET") == "VALID" ? 0 : At(n, "pads", i, 0) + At(n, "pads", i + spatial, 0);
                var free = Dim.Add(x, Dim.Of(pads - (k - 1) * At(n, "dilations", i, 1) - 1));
                if (ceiling && stride > 1 && Dim.Divide(free, Dim.Of(stride)) is null)
                    return null;
                return Dim.Add(Dim.FloorDivide(free, stride), Dim.One);
            default:
                return null;
        }
    }

    private static IEnumerable<Dim?>? Transposed(InferredNode n)
    {
        if (n.Dims(0) is not { Count: > 2 } x)
            return null;
        var w = n.Dims(1) is { } kernel && kernel.Count == x.Count ? kernel : null;
        var groups = n.Node.Int("group", 1);
        var shape = new Dim?[x.Count];
        shape[0] = x[0];
        shape[1] = w is null ? null : Dim.Multiply(w[1], Dim.Of(groups));
        var given = n.Node.Ints("output_shape");
        for (var i = 0; i < x.Count - 2; i++)
        {
            if (given is not null)
                shape[i + 2] = given.Count == x.Count - 2 ? Dim.Of(given[i]) : null;
            else if (n.Node.Text("auto_pad", "NOTSET") == "NOTSET" && (Kernel(n, i) ?? (w is null ? null : w[i + 2].Value)) is { } k)
            {
                var rest =
                    At(n, "output_padding", i, 0)
                    + (k - 1) * At(n, "dilations", i, 1)
                    + 1
                    - At(n, "pads", i, 0)
                    - At(n, "pads", i + x.Count - 2, 0);
                shape[i + 2] = Dim.Add(Dim.Multiply(Dim.Add(x[i + 2], Dim.Of(-1)), Dim.Of(At(n, "strides", i, 1))), Dim.Of(rest));
            }
        }
        return shape;
    }

    private static long At(InferredNode n, string attribute, int i, long otherwise) =>
        n.Node.Ints(attribute) is { } values && i < values.Count ? values[i] : otherwise;
}
