namespace Serverless.Core.Model;

/// <summary>Indices of operators that work element by element: the axes that are broadcast against each other are one.</summary>
internal static class ElementwiseCoupling
{
    public static IEnumerable<(string, CouplingRule)> Rules =>
        [
            .. OperatorFacts
                .With(ChannelEffect.Elementwise)
                .Select(f => f.Operator)
                .Where(o =>
                    !o.EndsWith("QuantizeLinear", StringComparison.Ordinal) && !o.EndsWith("DequantizeLinear", StringComparison.Ordinal)
                )
                .Select(o => (o, (CouplingRule)Broadcast)),
            ("QuantizeLinear", Quantize),
            ("DequantizeLinear", Quantize),
            ("com.microsoft.QuantizeLinear", Quantize),
            ("com.microsoft.DequantizeLinear", Quantize),
        ];

    private static void Broadcast(CoupledNode n)
    {
        var fact = OperatorFacts.Of(n.Node)!;
        var data = fact.Data == 1 ? 1 : n.Count;
        if (Enumerable.Range(0, data).Any(i => n.Has(i) && n.Axes(i) is null))
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        var role = n.Node.OpType is "Add" or "Sub" or "Sum" or "BiasGelu" or "FastGelu" ? ChannelRole.Bias : ChannelRole.Parameter;
        var rank = Enumerable.Range(0, data).Max(i => n.Axes(i)?.Count ?? 0);
        var (axes, zero) = (new IndexSet[rank], new bool[rank]);
        for (var a = 0; a < rank; a++)
        {
            axes[a] = Met(n, data, rank - a);
            zero[a] = Zero(n, fact, data, rank - a, role);
        }
        for (var i = 0; i < data; i++)
        for (var a = 0; a < (n.Axes(i)?.Count ?? 0); a++)
            n.Use(i, a, role);
        n.Make(0, axes, zero);
        // The mask of a Dropout.
        if (n.Outputs.Length > 1)
            n.Make(1, axes, new bool[rank]);
    }

    /// <summary>The indices of an axis, counted from the end, of what inputs are broadcast to.</summary>
    /// <param name="n">The node.</param>
    /// <param name="data">How many inputs are.</param>
    /// <param name="fromEnd">1 for the last axis.</param>
    public static IndexSet Met(CoupledNode n, int data, int fromEnd)
    {
        IndexSet? met = null;
        for (var i = 0; i < data; i++)
            if (n.Axes(i) is { } axes && axes.Count >= fromEnd)
                met = Met(n, met, axes[^fromEnd]);
        return met ?? IndexSet.One;
    }

    /// <summary>The indices of an axis that two are broadcast to.</summary>
    public static IndexSet Met(CoupledNode n, IndexSet? a, IndexSet b)
    {
        if (a is null || a.Size.Is(1))
            return b;
        if (b.Size.Is(1))
            return a;
        if (a.Size.Equals(b.Size) || a.Size.Value is not null && b.Size.Value is not null)
        {
            n.Unify(a, b);
            return a;
        }
        // One of them may be 1, which is not known.
        a.Freeze($"{n.Where} may broadcast it");
        b.Freeze($"{n.Where} may broadcast it");
        return a.Size.Value is not null ? a : b;
    }

    private static bool Zero(CoupledNode n, OperatorFact fact, int data, int fromEnd, ChannelRole role)
    {
        bool Of(int i) => n.Axes(i) is { } axes && axes.Count >= fromEnd && n.Zero(i, axes.Count - fromEnd, role);
        return n.Node.OpType switch
        {
            "Clip" => Of(0) && HoldsZero(n),
            "Where" => Of(1) && Of(2),
            "Pow" => Of(0) && n.Shapes.Input(1)?.Floats is { Count: > 0 } powers && powers.All(p => p > 0),
            _ => fact.Zero switch
            {
                ZeroRule.All => Enumerable.Range(0, data).All(i => !n.Has(i) || Of(i)),
                ZeroRule.Any => Enumerable.Range(0, data).Any(Of),
                ZeroRule.First => Of(0),
                _ => false,
            },
        };
    }

    private static bool HoldsZero(CoupledNode n)
    {
        var low = n.Has(1) ? n.Shapes.Input(1)?.Floats?[0] : n.Node.Float("min", float.NegativeInfinity);
        var high = n.Has(2) ? n.Shapes.Input(2)?.Floats?[0] : n.Node.Float("max", float.PositiveInfinity);
        return low <= 0 && high >= 0;
    }

    private static void Quantize(CoupledNode n)
    {
        if (n.Axes(0) is not { } axes)
        {
            n.FreezeAll("has inputs of an unknown rank");
            return;
        }
        if (n.Node.Int("block_size", 0) != 0)
        {
            n.FreezeAll("quantizes blocks of it");
            return;
        }
        var along = NodeReading.Axis(n.Node.Int("axis", 1), axes.Count);
        for (var i = 1; i < 3; i++)
        {
            if (n.Axes(i) is not { Count: > 0 } parameters || parameters.All(p => p.Size.Is(1)))
                continue;
            if (along is null || parameters.Count != 1)
            {
                n.FreezeAll("has parameters of an unknown axis");
                return;
            }
            n.Unify(parameters[0], axes[along.Value]);
            n.Use(i, 0, i == 1 ? ChannelRole.Parameter : ChannelRole.Bias);
        }
        n.Make(0, axes, [.. axes.Select((_, a) => n.Zero(0, a, ChannelRole.Producer))]);
    }
}
