using System.Runtime.CompilerServices;

namespace Serverless.Core.Model;

/// <summary>
/// Makes sets of indices one, and cuts them: each structure is refined as far as both need, or, where they do not fit, frozen.
/// </summary>
internal static class IndexAlgebra
{
    private const string Mixed = "a Reshape, Split or Concat cuts it where another does not";

    /// <summary>Says that two axes have the same indices.</summary>
    /// <param name="a">One.</param>
    /// <param name="b">The other.</param>
    /// <param name="where">The node that says so, for reasons.</param>
    public static void Unify(IndexSet a, IndexSet b, string where)
    {
        (a, b) = (a.Root, b.Root);
        if (a == b)
            return;
        if (!a.Size.Equals(b.Size) || a.Size.Value < 1)
        {
            var why = $"lengths {a.Size} and {b.Size} meet in {where}";
            a.Freeze(why);
            b.Freeze(why);
            return;
        }
        // Places of a definition stay what they are.
        if (a.IsLeaf && !(a.IsFixed && b.IsLeaf))
            Join(a, b);
        else if (b.IsLeaf)
            Join(b, a);
        else
        {
            RuntimeHelpers.EnsureSufficientExecutionStack();
            if (a.Parts is not null && b.Parts is not null)
                AlignParts(a, b, where);
            else if (a.Factors is not null && b.Factors is not null)
                AlignFactors(a, b, where);
            else
                Align(a.Parts is null ? b : a, a.Parts is null ? a : b, where);
            (a, b) = (a.Root, b.Root);
            if (a == b)
                return;
            if (a.Reason is { } frozen)
                b.Freeze(frozen);
            a.Become(b);
        }
    }

    private static void Join(IndexSet leaf, IndexSet other)
    {
        if (leaf.Reason is { } why)
            other.Freeze(why);
        leaf.Become(other);
    }

    private static void AlignParts(IndexSet a, IndexSet b, string where)
    {
        var (left, right) = (Pushed(a.Parts!), Pushed(b.Parts!));
        while (left.Count > 0 && right.Count > 0)
        {
            var (x, y) = (left.Pop().Root, right.Pop().Root);
            if (x == y)
                continue;
            if (x.Size.Equals(y.Size))
                Unify(x, y, where);
            else if (x.Size.Value > y.Size.Value)
                left.Push(Cut(x, y, where));
            else
                right.Push(Cut(y, x, where));
        }

        static IndexSet Cut(IndexSet longer, IndexSet shorter, string where)
        {
            var (first, rest) = Split(longer, shorter.Size.Value!.Value, where);
            Unify(first, shorter, where);
            return rest;
        }
    }

    private static void AlignFactors(IndexSet a, IndexSet b, string where)
    {
        var (left, right) = (Pushed(a.Factors!), Pushed(b.Factors!));
        while (left.Count > 0 && right.Count > 0)
        {
            var (x, y) = (left.Pop().Root, right.Pop().Root);
            if (x == y)
                continue;
            if (x.Size.Equals(y.Size))
                Unify(x, y, where);
            else if (Dim.Divide(x.Size, y.Size) is { } inner)
                left.Push(Cut(x, y, inner, where));
            else if (Dim.Divide(y.Size, x.Size) is { } rest)
                right.Push(Cut(y, x, rest, where));
            else
            {
                foreach (var set in left.Concat(right).Append(x).Append(y))
                    set.Freeze(Mixed);
                return;
            }
        }

        static IndexSet Cut(IndexSet longer, IndexSet outer, Dim inner, string where)
        {
            var (first, rest) = Factor(longer, outer.Size, inner, where);
            Unify(first, outer, where);
            return rest;
        }
    }

    private static void Align(IndexSet sum, IndexSet product, string where)
    {
        var rest = IndexSet.Product([.. product.Factors!.Skip(1)])!;
        var (outer, inner) = Factor(sum, product.Factors![0].Size, rest.Size, where);
        Unify(outer, product.Factors[0], where);
        Unify(inner, rest, where);
    }

    /// <summary>Cuts a set of known length in two.</summary>
    /// <param name="set">The set.</param>
    /// <param name="at">Length of the first part, more than none and less than all.</param>
    /// <param name="where">The node that cuts it.</param>
    public static (IndexSet Before, IndexSet Behind) Split(IndexSet set, long at, string where)
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        set = set.Root;
        var (first, rest) = (Dim.Of(at), Dim.Of(set.Size.Value!.Value - at));
        if (set.Parts is { } parts)
        {
            long before = 0;
            for (var i = 0; i < parts.Length; i++)
            {
                var length = parts[i].Size.Value!.Value;
                if (before + length <= at)
                {
                    before += length;
                    if (before == at)
                        return (IndexSet.Sum(parts[..(i + 1)]), IndexSet.Sum(parts[(i + 1)..]));
                    continue;
                }
                var (left, right) = Split(parts[i], at - before, where);
                return (IndexSet.Sum([.. parts[..i], left]), IndexSet.Sum([right, .. parts[(i + 1)..]]));
            }
        }
        if (set.Factors is { } factors)
        {
            var inner = IndexSet.Product(factors[1..])!;
            if (inner.Size.Value is { } step && at % step == 0)
            {
                var (left, right) = Split(factors[0], at / step, where);
                return (IndexSet.Product(left, inner)!, IndexSet.Product(right, inner)!);
            }
            set.Freeze(Mixed);
            return (IndexSet.Leaf(first, Mixed), IndexSet.Leaf(rest, Mixed));
        }
        var cut = (set.Like(first), set.Like(rest));
        set.Take([cut.Item1, cut.Item2], null);
        return cut;
    }

    /// <summary>Sees a set as two whose indices are combined.</summary>
    /// <param name="set">The set.</param>
    /// <param name="outer">Length of the slower.</param>
    /// <param name="inner">Length of the faster.</param>
    /// <param name="where">The node that does.</param>
    public static (IndexSet Outer, IndexSet Inner) Factor(IndexSet set, Dim outer, Dim inner, string where)
    {
        RuntimeHelpers.EnsureSufficientExecutionStack();
        set = set.Root;
        if (set.Size.Value < 1)
            return Frozen(set, outer, inner);
        if (outer.Is(1))
            return (IndexSet.One, set);
        if (inner.Is(1))
            return (set, IndexSet.One);
        if (set.Parts is { } parts)
            return FactorParts(set, parts, outer, inner, where);
        if (set.Factors is { } factors)
            return FactorFactors(set, factors, outer, inner, where);
        var (o, i) = (set.Like(outer), set.Like(inner));
        set.Take(null, [o, i]);
        return (o, i);
    }

    private static (IndexSet, IndexSet) FactorParts(IndexSet set, IndexSet[] parts, Dim outer, Dim inner, string where)
    {
        if (parts.Any(p => Dim.Divide(p.Size, inner) is null))
            return Frozen(set, outer, inner);
        var outers = new List<IndexSet>();
        IndexSet? common = null;
        foreach (var part in parts)
        {
            var (o, i) = Factor(part, Dim.Divide(part.Size, inner)!, inner, where);
            outers.Add(o);
            if (common is not null)
                Unify(common, i, where);
            common ??= i;
        }
        return (IndexSet.Sum(outers), common!.Root);
    }

    private static (IndexSet, IndexSet) FactorFactors(IndexSet set, IndexSet[] factors, Dim outer, Dim inner, string where)
    {
        var left = outer;
        for (var i = 0; i < factors.Length; i++)
        {
            if (Dim.Divide(left, factors[i].Size) is { } more)
            {
                left = more;
                if (left.Is(1))
                    return (IndexSet.Product(factors[..(i + 1)])!, IndexSet.Product(factors[(i + 1)..])!);
                continue;
            }
            if (Dim.Divide(factors[i].Size, left) is not { } rest)
                break;
            var (o, n) = Factor(factors[i], left, rest, where);
            return (IndexSet.Product([.. factors[..i], o])!, IndexSet.Product([n, .. factors[(i + 1)..]])!);
        }
        return Frozen(set, outer, inner);
    }

    private static (IndexSet, IndexSet) Frozen(IndexSet set, Dim outer, Dim inner)
    {
        set.Freeze(Mixed);
        return (IndexSet.Leaf(outer, Mixed), IndexSet.Leaf(inner, Mixed));
    }

    private static Stack<IndexSet> Pushed(IndexSet[] sets) => new(sets.Reverse());
}
