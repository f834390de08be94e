namespace Serverless.Core.Model;

/// <summary>
/// A weight seen as <c>outer × axis × inner</c>: row-major, reduced over <c>axis</c>. One row is the weights of one
/// <c>(outer, inner)</c>: an output channel of a Conv, a column of a MatMul's B, a vector of an embedding.
/// </summary>
/// <param name="Outer">Slices before the reduced axis.</param>
/// <param name="Axis">Length of the reduced axis.</param>
/// <param name="Inner">Elements after it.</param>
public sealed record LayerShape(long Outer, long Axis, long Inner)
{
    /// <summary>Number of rows.</summary>
    public long Rows => Outer * Inner;

    /// <summary>Number of weights.</summary>
    public long Elements => Rows * Axis;

    /// <summary>The row of an element of the stored tensor.</summary>
    public long Row(long element) => element / (Axis * Inner) * Inner + element % Inner;

    /// <summary>The place in its row of an element of the stored tensor.</summary>
    public long Column(long element) => element / Inner % Axis;

    /// <summary>The axis of the stored tensor that rows lie along: the first, or the last where a row is a column of it.</summary>
    /// <param name="dims">Dimensions of the tensor.</param>
    public int RowAxis(long[] dims)
    {
        // One row alone, [K, 1]: its view is that of [1, K].
        var column = Inner > 1 || Outer == 1 && dims[0] != 1 && dims[^1] == 1;
        return column ? dims.Length - 1 : 0;
    }

    /// <summary>The view that the weight's first use suggests.</summary>
    public static LayerShape Of(Weight weight)
    {
        var dims = weight.Reference.Dims;
        if (dims.Length < 2)
            return new LayerShape(1, weight.Reference.Elements, 1);
        var use = weight.Uses[0];
        var reduced = (use.KeepsLayout, use.Op, use.Input) switch
        {
            (true, "MatMul" or "com.microsoft.FusedMatMul" or "com.microsoft.Attention", 1) => dims.Length - 2,
            (true, "Gemm" or "com.microsoft.FusedGemm", 1) => use.IntAttribute("transB", 0) == 0 ? 0 : 1,
            (true, "Gemm" or "com.microsoft.FusedGemm", 0) => use.IntAttribute("transA", 0) == 0 ? 1 : 0,
            _ => dims.Length - 1,
        };
        if (use is { KeepsLayout: true, Op: "Conv" or "DeformConv" or "com.microsoft.FusedConv" })
            return new LayerShape(dims[0], weight.Reference.Elements / dims[0], 1);
        // [inputs, outputs of a group, kernel]: a row is what one pixel of the kernel takes from the inputs of a group.
        if (use is { KeepsLayout: true, Op: "ConvTranspose" })
            return new LayerShape(use.IntAttribute("group", 1), dims[0] / use.IntAttribute("group", 1), Product(dims[1..]));
        return new LayerShape(Product(dims[..reduced]), dims[reduced], Product(dims[(reduced + 1)..]));
    }

    /// <summary>
    /// Why the dims are not those of a weight that the operators take, or null: such a model does not run, and no technique
    /// has to know how to read it.
    /// </summary>
    public static string? WhyUnfit(Weight weight)
    {
        var dims = weight.Reference.Dims;
        foreach (var use in weight.Uses.Where(u => u.Direct))
        {
            var fits = use.Op switch
            {
                "Conv" or "ConvTranspose" or "DeformConv" or "com.microsoft.FusedConv" => dims.Length >= 3
                    && Divides(use.IntAttribute("group", 1), dims[0]),
                "Gemm" or "com.microsoft.FusedGemm" => dims.Length == 2,
                "LSTM" or "GRU" or "RNN" => dims.Length == 3,
                _ => true,
            };
            if (!fits)
                return $"no weight of {use.Op}: its dims are [{string.Join(',', dims)}]";
        }
        return null;

        static bool Divides(long groups, long channels) => groups > 0 && channels % groups == 0;
    }

    private static long Product(long[] dims) => dims.Aggregate(1L, (a, b) => a * b);
}
