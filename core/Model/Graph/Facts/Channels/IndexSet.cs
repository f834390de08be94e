namespace Serverless.Core.Model;

/// <summary>
/// The indices of an axis. Those that always go together with others are one set (union-find; Galler and Fischer 1964). A set is a leaf,
/// whose
/// indices are taken one by one; parts that follow one another, as Concat makes them; or factors, the last of which moves fastest, as
/// Reshape makes them. Leaves take such a structure once it is known.
/// </summary>
internal sealed class IndexSet
{
    private IndexSet? parent;

    private IndexSet(Dim size) => Size = size;

    /// <summary>An axis of one index, which no others are coupled with.</summary>
    public static IndexSet One { get; } = new(Dim.One);

    /// <summary>How many indices.</summary>
    public Dim Size { get; }

    /// <summary>Sets that follow one another; null where it is none of them.</summary>
    public IndexSet[]? Parts { get; private set; }

    /// <summary>Sets whose indices are combined; null where it is none of them.</summary>
    public IndexSet[]? Factors { get; private set; }

    /// <summary>Why none of its indices can be removed, or null. Of a set with a structure, that of all its leaves.</summary>
    public string? Reason { get; private set; }

    /// <summary>Whether it stands for a place in the operator's definition, as the gates of an LSTM do, and not for channels.</summary>
    public bool IsFixed { get; private set; }

    /// <summary>Whether it has no structure.</summary>
    public bool IsLeaf => Parts is null && Factors is null;

    /// <summary>The set that stands for all that are one with it.</summary>
    public IndexSet Root
    {
        get
        {
            var root = this;
            while (root.parent is { } above)
                root = above;
            for (var at = this; at.parent is { } above; at = above)
                at.parent = root;
            return root;
        }
    }

    /// <summary>A set of its own.</summary>
    /// <param name="size">How many indices.</param>
    /// <param name="reason">Why none can be removed, or null.</param>
    public static IndexSet Leaf(Dim size, string? reason = null) => size.Is(1) ? One : new IndexSet(size) { Reason = reason };

    /// <summary>Places of an operator's definition.</summary>
    public static IndexSet Fixed(long size, string reason) =>
        size == 1 ? One : new IndexSet(Dim.Of(size)) { Reason = reason, IsFixed = true };

    /// <summary>Sets that follow one another.</summary>
    public static IndexSet Sum(params IReadOnlyList<IndexSet> parts)
    {
        if (parts.Count == 1)
            return parts[0].Root;
        var size = parts.Aggregate((Dim?)Dim.Zero, (s, p) => Dim.Add(s, p.Size));
        // Flat, however many Concats follow one another.
        return new IndexSet(size!) { Parts = [.. parts.SelectMany(p => p.Root.Parts ?? [p.Root])] };
    }

    /// <summary>Sets whose indices are combined; null when the size is too long an expression.</summary>
    public static IndexSet? Product(params IReadOnlyList<IndexSet> factors)
    {
        var longer = factors.Where(f => !f.Size.Is(1)).ToArray();
        if (longer.Length < 2)
            return longer.Length == 0 ? One : longer[0].Root;
        return longer.Aggregate((Dim?)Dim.One, (s, f) => Dim.Multiply(s, f.Size)) is { } size
            ? new IndexSet(size) { Factors = longer }
            : null;
    }

    /// <summary>Says that none of the indices can be removed; the first reason stays.</summary>
    public void Freeze(string reason)
    {
        var root = Root;
        if (root.Reason is not null || root == One)
            return;
        System.Runtime.CompilerServices.RuntimeHelpers.EnsureSufficientExecutionStack();
        root.Reason = reason;
        foreach (var inner in root.Parts ?? root.Factors ?? [])
            inner.Freeze(reason);
    }

    /// <summary>Gives a leaf its parts, or its factors.</summary>
    internal void Take(IndexSet[]? parts, IndexSet[]? factors) => (Parts, Factors) = (parts, factors);

    /// <summary>Lets another set stand for this one, both roots.</summary>
    internal void Become(IndexSet other) => parent = other;

    /// <summary>A leaf of the same kind.</summary>
    internal IndexSet Like(Dim size) => size.Is(1) ? One : new IndexSet(size) { Reason = Reason, IsFixed = IsFixed };
}
