using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>Shapes of matrix products.</summary>
internal static class MatrixShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules =>
        [
            ("MatMul", n => n.Make(0, n.Type(0), Product(n.Dims(0), n.Dims(1)))),
            ("MatMulInteger", n => n.Make(0, DataType.Int32, Product(n.Dims(0), n.Dims(1)))),
            ("QLinearMatMul", n => n.Make(0, n.Type(7), Product(n.Dims(0), n.Dims(3)))),
            ("com.microsoft.FusedMatMul", Fused),
            ("com.microsoft.MatMulIntegerToFloat", n => n.Make(0, n.Type(2), Product(n.Dims(0), n.Dims(1)))),
            ("com.microsoft.DynamicQuantizeMatMul", n => n.Make(0, n.Type(0), Product(n.Dims(0), n.Dims(1)))),
            (
                "com.microsoft.MatMulNBits",
                n => n.Make(0, n.Type(0), n.Dims(0) is { Count: > 0 } x ? [.. x.SkipLast(1), Dim.Of(n.Node.Int("N", 0))] : null)
            ),
            ("Gemm", Gemm),
            ("com.microsoft.FusedGemm", Gemm),
            ("Einsum", Einsum),
        ];

    /// <summary>Of a product whose leading axes are broadcast (numpy.matmul).</summary>
    public static IEnumerable<Dim?>? Product(IReadOnlyList<Dim>? a, IReadOnlyList<Dim>? b)
    {
        if (a is not { Count: > 0 } || b is not { Count: > 0 })
            return null;
        var leading = ElementwiseShapes.Broadcast(a.SkipLast(Math.Min(2, a.Count)).ToList(), b.SkipLast(Math.Min(2, b.Count)).ToList())!;
        return [.. leading, .. a.Count > 1 ? [a[^2]] : Array.Empty<Dim>(), .. b.Count > 1 ? [b[^1]] : Array.Empty<Dim>()];
    }

    private static void Fused(InferredNode n)
    {
        if (n.Node.Int("transBatchA", 0) != 0 || n.Node.Int("transBatchB", 0) != 0)
        {
            n.Make(0, n.Type(0), null);
            return;
        }
        n.Make(0, n.Type(0), Product(Turned(n.Dims(0), "transA"), Turned(n.Dims(1), "transB")));

        IReadOnlyList<Dim>? Turned(IReadOnlyList<Dim>? dims, string attribute) =>
            dims is { Count: > 1 } && n.Node.Int(attribute, 0) != 0 ? [.. dims.SkipLast(2), dims[^1], dims[^2]] : dims;
    }

    private static void Gemm(InferredNode n)
    {
        var (a, b) = (n.Dims(0), n.Dims(1));
        n.Make(
            0,
            n.Type(0),
            [
                a is { Count: 2 } ? a[n.Node.Int("transA", 0) == 0 ? 0 : 1] : null,
                b is { Count: 2 } ? b[n.Node.Int("transB", 0) == 0 ? 1 : 0] : null,
            ]
        );
    }

    private static void Einsum(InferredNode n)
    {
        if (EinsumEquation.Parse(n.Node, n.Count) is not { } equation)
        {
            n.Make(0, n.Type(0), null);
            return;
        }
        var lengths = new Dictionary<char, Dim?>();
        for (var i = 0; i < n.Count; i++)
        {
            if (n.Dims(i) is not { } dims || dims.Count != equation.Inputs[i].Length)
                continue;
            for (var a = 0; a < dims.Count; a++)
                if (!lengths.TryGetValue(equation.Inputs[i][a], out var known) || known?.Is(1) == true || known?.Value is null)
                    lengths[equation.Inputs[i][a]] = dims[a];
        }
        n.Make(0, n.Type(0), equation.Output.Select(c => lengths.GetValueOrDefault(c)));
    }
}
