namespace Serverless.Core.Model;

/// <summary>Indices of matrix products: what is summed over is one, the rest is handed on.</summary>
internal static class MatrixCoupling
{
    public static IEnumerable<(string, CouplingRule)> Rules =>
        [
            ("MatMul", n => Product(n, false, false)),
            ("com.microsoft.FusedMatMul", Fused),
            ("Gemm", Gemm),
            ("com.microsoft.FusedGemm", Gemm),
            ("Einsum", Einsum),
        ];

    private static void Fused(CoupledNode n)
    {
        if (n.Node.Int("transBatchA", 0) != 0 || n.Node.Int("transBatchB", 0) != 0)
            n.FreezeAll("turns its batches");
        else
            Product(n, n.Node.Int("transA", 0) != 0, n.Node.Int("transB", 0) != 0);
    }

    private static void Product(CoupledNode n, bool turnA, bool turnB)
    {
        if (n.Axes(0) is not { Count: > 0 } a || n.Axes(1) is not { Count: > 0 } b)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        var (sumA, sumB) = (Summed(a.Count, turnA, 1), b.Count == 1 ? 0 : Summed(b.Count, turnB, 2));
        var (axes, zero) = (new List<IndexSet>(), new List<bool>());
        for (var i = Math.Max(a.Count, b.Count); i > 2; i--)
        {
            var (x, y) = (a.Count - i, b.Count - i);
            axes.Add(ElementwiseCoupling.Met(n, x >= 0 ? a[x] : null, y >= 0 ? b[y] : IndexSet.One));
            zero.Add(x >= 0 && Leading(0, x) || y >= 0 && Leading(1, y));
        }
        if (a.Count > 1)
            Kept(0, turnA ? a.Count - 1 : a.Count - 2);
        if (b.Count > 1)
            Kept(1, turnB ? b.Count - 2 : b.Count - 1);
        Contract(n, 0, sumA, 1, sumB);
        n.Make(0, axes, zero);

        bool Leading(int input, int axis)
        {
            n.Use(input, axis, ChannelRole.Producer);
            return n.Zero(input, axis, ChannelRole.Producer);
        }

        void Kept(int input, int axis)
        {
            axes.Add(n.Axes(input)![axis]);
            zero.Add(Leading(input, axis));
        }

        static int Summed(int rank, bool turned, int usual) => turned && rank > 1 ? rank - 3 + usual : rank - usual;
    }

    /// <summary>Couples axes that are summed over. Where no weight takes them, zero units have to be zero already.</summary>
    private static void Contract(CoupledNode n, int inputA, int axisA, int inputB, int axisB)
    {
        var (a, b) = (n.Axes(inputA)![axisA], n.Axes(inputB)![axisB]);
        n.Unify(a, b);
        n.Use(inputA, axisA, ChannelRole.Consumer);
        n.Use(inputB, axisB, ChannelRole.Consumer);
        if (!n.Zero(inputA, axisA, ChannelRole.Consumer) && !n.Zero(inputB, axisB, ChannelRole.Consumer))
            a.Freeze($"{n.Where} sums over it where it may not be zero");
    }

    private static void Gemm(CoupledNode n)
    {
        if (n.Axes(0) is not { Count: 2 } a || n.Axes(1) is not { Count: 2 } b || n.Has(2) && n.Axes(2) is not { Count: < 3 })
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        var (keptA, keptB) = (n.Node.Int("transA", 0) == 0 ? 0 : 1, n.Node.Int("transB", 0) == 0 ? 1 : 0);
        Contract(n, 0, 1 - keptA, 1, 1 - keptB);
        IndexSet[] axes = [a[keptA], b[keptB]];
        bool[] zero = [Made(0, keptA), Made(1, keptB)];
        for (var c = 1; n.Has(2) && c <= 2; c++)
        {
            var bias = n.Axes(2)!;
            if (bias.Count < c)
            {
                zero[^c] = false;
                continue;
            }
            axes[^c] = ElementwiseCoupling.Met(n, axes[^c], bias[^c]);
            n.Use(2, bias.Count - c, ChannelRole.Bias);
            zero[^c] &= n.Zero(2, bias.Count - c, ChannelRole.Bias);
        }
        if (n.Node.Text("activation", "Relu") is not ("Relu" or "LeakyRelu" or "Tanh"))
            zero = [false, false];
        n.Make(0, axes, zero);

        bool Made(int input, int axis)
        {
            n.Use(input, axis, ChannelRole.Producer);
            return n.Zero(input, axis, ChannelRole.Producer);
        }
    }

    private static void Einsum(CoupledNode n)
    {
        if (
            EinsumEquation.Parse(n.Node, n.Count) is not { } equation
            || Enumerable.Range(0, n.Count).Any(i => n.Axes(i)?.Count != equation.Inputs[i].Length)
        )
        {
            n.FreezeAll("has an equation that is not read here");
            return;
        }
        var places = Enumerable
            .Range(0, n.Count)
            .SelectMany(i => equation.Inputs[i].Select((c, a) => (Letter: c, Input: i, Axis: a)))
            .GroupBy(p => p.Letter)
            .ToDictionary(g => g.Key, g => g.ToList());
        var sets = new Dictionary<char, (IndexSet Set, bool Zero)>();
        foreach (var (letter, at) in places)
        {
            var kept = equation.Output.Contains(letter, StringComparison.Ordinal);
            var set = at.Aggregate((IndexSet?)null, (s, p) => ElementwiseCoupling.Met(n, s, n.Axes(p.Input)![p.Axis]))!;
            var role = kept ? ChannelRole.Producer : ChannelRole.Consumer;
            foreach (var p in at)
                n.Use(p.Input, p.Axis, role);
            var zero = at.Any(p => n.Zero(p.Input, p.Axis, role));
            if (!kept && !zero)
                set.Freeze($"{n.Where} sums over it where it may not be zero");
            sets[letter] = (set, zero);
        }
        n.Make(0, [.. equation.Output.Select(c => sets[c].Set)], [.. equation.Output.Select(c => sets[c].Zero)]);
    }
}
