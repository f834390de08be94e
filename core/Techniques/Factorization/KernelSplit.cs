using Serverless.Core.Forms;

namespace Serverless.Core.Techniques.Factorization;

/// <summary>
/// A weight W[i, k, o] of inputs, kernel and outputs as a matrix whose rows are an input and an element a of the kernel's axes that the
/// first factor has, and whose columns are an output and an element b of the other axes. Its product of two of a rank is a convolution
/// along the first axes, and one along the others. All axes first is the split by output (Denton et al. 2014), none the one by input, one
/// of two that by space (Jaderberg, Vedaldi and Zisserman 2014, "Speeding up Convolutional Neural Networks with Low Rank Expansions",
/// section 2.2).
/// </summary>
/// <param name="Layout">The weight.</param>
/// <param name="First">Axes of the kernel that the first factor has.</param>
internal sealed record KernelSplit(ProductLayout Layout, IReadOnlyList<int> First)
{
    /// <summary>Elements of the first factor's kernel.</summary>
    public int Before => Pixels(first: true);

    /// <summary>Elements of the second's.</summary>
    public int Behind => Pixels(first: false);

    /// <summary>Rows of the matrix.</summary>
    public int Rows => checked((int)Layout.Inputs * Before);

    /// <summary>Columns of the matrix.</summary>
    public int Columns => checked((int)Layout.Outputs * Behind);

    /// <summary>Weights that each rank takes.</summary>
    public long Each => (long)Rows + Columns;

    /// <summary>Multiply-accumulates that each rank takes for a position of the output.</summary>
    public long Work => Rows * Finer() + Columns;

    /// <summary>The splits of a weight into two.</summary>
    /// <param name="layout">The weight.</param>
    /// <param name="by">Which ones; a weight without a kernel has one alone.</param>
    public static IReadOnlyList<KernelSplit> Of(ProductLayout layout, SplitBy by)
    {
        int[] all = [.. Enumerable.Range(0, layout.Kernel.Count)];
        if (layout.Pixels == 1)
            return [new KernelSplit(layout, all)];
        var splits = new List<KernelSplit>();
        if (by is SplitBy.Best or SplitBy.Output)
            splits.Add(new KernelSplit(layout, all));
        if (by is SplitBy.Best or SplitBy.Input)
            splits.Add(new KernelSplit(layout, []));
        if (by is SplitBy.Best or SplitBy.Space && all.Length == 2 && layout.Kernel.All(k => k > 1))
            splits.AddRange(all.Select(axis => new KernelSplit(layout, [axis])));
        return splits;
    }

    /// <summary>Place b · rows + row of the matrix, by blocks of b → place i · pixels + k of the weight's rows.</summary>
    public int[] Order()
    {
        var (pixels, before, behind) = ((int)Layout.Pixels, Before, Behind);
        var order = new int[Layout.Inputs * pixels];
        for (var k = 0; k < pixels; k++)
        {
            var (a, b) = Elements(k);
            for (var i = 0; i < Layout.Inputs; i++)
                order[(b * (int)Layout.Inputs + i) * before + a] = i * pixels + k;
        }
        return order;
    }

    /// <summary>Copies the weight, inputs × kernel × outputs, into the matrix; or back.</summary>
    /// <param name="from">The weight, or the matrix.</param>
    /// <param name="back">Whether the matrix is copied into the weight.</param>
    public double[] Unfold(ReadOnlySpan<double> from, bool back = false)
    {
        var (outputs, behind, order) = ((int)Layout.Outputs, Behind, Order());
        var to = new double[from.Length];
        for (var at = 0; at < order.Length; at++)
        {
            var (b, row) = (at / Rows, at % Rows);
            var (weight, matrix) = (order[at] * outputs, row * Columns + b);
            for (var o = 0; o < outputs; o++)
                if (back)
                    to[weight + o] = from[matrix + o * behind];
                else
                    to[matrix + o * behind] = from[weight + o];
        }
        return to;
    }

    /// <summary>The factors as operators take them.</summary>
    /// <param name="left">Rows × rank.</param>
    /// <param name="right">Rank × columns.</param>
    /// <param name="rank">The rank.</param>
    public IReadOnlyList<FoundFactor> Factors(double[] left, double[] right, int rank)
    {
        var places = Places(rank);
        if (Layout is { OutputsFirst: false })
            return [new(left, places[0]), new(right, places[1])];
        var first = Layout.IsRecurrent ? left : Turned(left, Rows, rank);
        return [new(first, places[0]), new(OutputsFirst(right, rank, Behind), places[1])];
    }

    /// <summary>The factors' dimensions, and their parts of the operator.</summary>
    public IReadOnlyList<ProductFactor> Places(int rank)
    {
        if (Layout is { OutputsFirst: false })
            return [new([Layout.Inputs, rank], []), new([rank, Layout.Outputs], [])];
        if (Layout.IsRecurrent)
            return [new([Layout.Inputs, rank], []), new([Layout.Dims[0], Layout.Dims[1], rank], [])];
        int[] others = [.. Enumerable.Range(0, Layout.Kernel.Count).Except(First)];
        return [new([rank, Layout.Inputs, .. Kernel(First)], First), new([Layout.Outputs, rank, .. Kernel(others)], others)];
    }

    // Lengths of a factor's kernel: of the axes that it has, and one along the others.
    private IEnumerable<long> Kernel(IReadOnlyList<int> axes) => Layout.Kernel.Select((k, axis) => axes.Contains(axis) ? (long)k : 1);

    /// <summary>The transpose of a matrix.</summary>
    public static double[] Turned(ReadOnlySpan<double> matrix, int rows, int columns)
    {
        var turned = new double[matrix.Length];
        for (var i = 0; i < rows; i++)
        for (var j = 0; j < columns; j++)
            turned[j * rows + i] = matrix[i * columns + j];
        return turned;
    }

    // Rank × outputs × pixels → outputs × rank × pixels.
    private static double[] OutputsFirst(ReadOnlySpan<double> right, int rank, int pixels)
    {
        var (turned, outputs) = (new double[right.Length], right.Length / rank / pixels);
        for (var r = 0; r < rank; r++)
        for (var o = 0; o < outputs; o++)
            right.Slice((r * outputs + o) * pixels, pixels).CopyTo(turned.AsSpan((o * rank + r) * pixels));
        return turned;
    }

    // Of element k of the kernel, the elements along the axes of either factor.
    private (int A, int B) Elements(int k)
    {
        var (a, b, eachA, eachB) = (0, 0, 1, 1);
        for (var axis = Layout.Kernel.Count - 1; axis >= 0; axis--)
        {
            var length = Layout.Kernel[axis];
            if (First.Contains(axis))
                (a, eachA) = (a + k % length * eachA, eachA * length);
            else
                (b, eachB) = (b + k % length * eachB, eachB * length);
            k /= length;
        }
        return (a, b);
    }

    private int Pixels(bool first) => Layout.Kernel.Where((_, axis) => First.Contains(axis) == first).Aggregate(1, (a, k) => a * k);

    // Positions of the first factor over those of the output: it makes every pixel along the axes that the second strides over.
    private long Finer() => Layout.Strides.Where((_, axis) => !First.Contains(axis)).Aggregate(1L, (a, s) => a * s);
}

/// <summary>A factor's weights in the order of its dimensions.</summary>
/// <param name="Values">The weights.</param>
/// <param name="Place">Its dimensions and its part of the operator.</param>
internal sealed record FoundFactor(double[] Values, ProductFactor Place);
