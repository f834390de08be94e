using System.Globalization;

namespace Serverless.Core.Model;

/// <summary>
/// The length of an axis: a number, or a polynomial of symbols where it is dynamic. A symbol is a dimension of an input by its name, or the
/// text of an expression such as <c>floor((H-1)/2)</c>. Two lengths that are equal here are equal in every run.
/// </summary>
public sealed class Dim : IEquatable<Dim>
{
    private const int MostTerms = 6,
        MostSymbols = 6,
        LongestText = 120;
    private readonly (long Factor, string[] Symbols)[] terms;

    private Dim((long, string[])[] terms) => this.terms = terms;

    /// <summary>The length 1.</summary>
    public static Dim One { get; } = Of(1);

    /// <summary>The length 0.</summary>
    public static Dim Zero { get; } = Of(0);

    /// <summary>A number.</summary>
    public static Dim Of(long value) => new(value == 0 ? [] : [(value, [])]);

    /// <summary>A length that is known by a name alone.</summary>
    public static Dim Symbol(string name) => new([(1, [name])]);

    /// <summary>The number, or null when it is dynamic.</summary>
    public long? Value =>
        terms.Length == 0 ? 0
        : terms is [(var factor, { Length: 0 })] ? factor
        : null;

    /// <summary>Whether the number is the one given.</summary>
    public bool Is(long value) => Value == value;

    /// <summary>The symbol that alone it is, or null.</summary>
    public string? Name => terms is [(1, [var symbol])] ? symbol : null;

    /// <summary>Whether nothing is known of it that another length could be compared with.</summary>
    public bool IsUnknown => terms.Any(t => t.Symbols.Any(s => s.StartsWith('?')));

    /// <summary>The value when each symbol stands for a number; null where one has none.</summary>
    public long? Evaluate(Func<string, long?> symbol)
    {
        long sum = 0;
        foreach (var (factor, symbols) in terms)
        {
            var product = factor;
            foreach (var s in symbols)
            {
                if (symbol(s) is not { } value)
                    return null;
                product *= value;
            }
            sum += product;
        }
        return sum;
    }

    /// <summary>The sum; null when it is too long to be kept or overflows.</summary>
    internal static Dim? Add(Dim? a, Dim? b)
    {
        if (a is null || b is null)
            return null;
        if (a.Value is { } x && b.Value is { } y)
            return Sum(x, y) is { } sum ? Of(sum) : null;
        return Canonical([.. a.terms, .. b.terms]);
    }

    /// <summary>The product; null when it is too long to be kept or overflows.</summary>
    internal static Dim? Multiply(Dim? a, Dim? b)
    {
        if (a is null || b is null)
            return null;
        var product = new List<(long, string[])>();
        foreach (var x in a.terms)
        foreach (var y in b.terms)
        {
            if (x.Symbols.Length + y.Symbols.Length > MostSymbols || Product(x.Factor, y.Factor) is not { } factor)
                return null;
            product.Add((factor, [.. x.Symbols.Concat(y.Symbols).Order(StringComparer.Ordinal)]));
        }
        return Canonical(product);
    }

    /// <summary>The quotient where the division leaves no rest, whatever the symbols are; else null.</summary>
    internal static Dim? Divide(Dim? a, Dim? b)
    {
        if (a is null || b is null || b.terms.Length == 0)
            return null;
        if (a.Equals(b))
            return One;
        // Long division of polynomials: each step takes the leading term away.
        var (rest, quotient) = (a, new List<(long, string[])>());
        var (by, symbols) = Leading(b);
        while (rest.terms.Length > 0)
        {
            var (factor, of) = Leading(rest);
            var left = of.ToList();
            if (factor % by != 0 || !symbols.All(left.Remove) || quotient.Count > MostTerms)
                return null;
            quotient.Add((factor / by, [.. left]));
            var step = Canonical([(-factor / by, [.. left])]);
            if (Add(rest, Multiply(step, b)) is not { } less)
                return null;
            rest = less;
        }
        return Canonical(quotient);
    }

    // In the graded lexicographic order.
    private static (long Factor, string[] Symbols) Leading(Dim of)
    {
        var first = of.terms[0];
        foreach (var term in of.terms.AsSpan(1))
            if (IsAbove(term.Symbols, first.Symbols))
                first = term;
        return first;

        static bool IsAbove(string[] a, string[] b)
        {
            if (a.Length != b.Length)
                return a.Length > b.Length;
            for (var i = 0; i < a.Length; i++)
                if (string.CompareOrdinal(a[i], b[i]) is not 0 and var order)
                    return order < 0;
            return false;
        }
    }

    /// <summary>⌊a / by⌋, exact where it can be and an expression's text elsewhere; null when that is too long.</summary>
    internal static Dim? FloorDivide(Dim? a, long by)
    {
        if (a is null || by <= 0)
            return null;
        if (by == 1)
            return a;
        // ⌊(by·n + r) / by⌋ = n + ⌊r / by⌋ for whole n.
        var whole = a.terms.Where(t => t.Symbols.Length > 0).All(t => t.Factor % by == 0);
        if (whole)
            return Canonical(
                a.terms.Select(t => (t.Symbols.Length > 0 ? t.Factor / by : Floor(t.Factor, by), t.Symbols)).Where(t => t.Item1 != 0)
            );
        return Expression($"floor(({a})/{by.ToString(CultureInfo.InvariantCulture)})");
    }

    /// <summary>A length known by the text of its expression; null when that is too long.</summary>
    internal static Dim? Expression(string text) =>
        text.Length > LongestText || text.Contains('?', StringComparison.Ordinal) ? null : Symbol(text);

    /// <summary>Whether it is a symbol, or a sum or product of them, that no run makes negative.</summary>
    internal bool IsNonNegative => terms.All(t => t.Factor >= 0);

    /// <inheritdoc/>
    public bool Equals(Dim? other)
    {
        if (other is null || terms.Length != other.terms.Length)
            return false;
        for (var i = 0; i < terms.Length; i++)
            if (terms[i].Factor != other.terms[i].Factor || !terms[i].Symbols.AsSpan().SequenceEqual(other.terms[i].Symbols))
                return false;
        return true;
    }

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as Dim);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        foreach (var (factor, symbols) in terms)
        {
            hash.Add(factor);
            foreach (var s in symbols)
                hash.Add(s, StringComparer.Ordinal);
        }
        return hash.ToHashCode();
    }

    /// <inheritdoc/>
    public override string ToString() =>
        terms.Length == 0
            ? "0"
            : string.Concat(
                terms.Select(
                    (t, i) =>
                    {
                        var sign =
                            t.Factor < 0 ? "-"
                            : i > 0 ? "+"
                            : "";
                        var number = Math.Abs((decimal)t.Factor).ToString(CultureInfo.InvariantCulture);
                        var symbols = string.Join('*', t.Symbols);
                        if (symbols.Length == 0)
                            return sign + number;
                        return sign + (number == "1" ? symbols : $"{number}*{symbols}");
                    }
                )
            );

    private static Dim? Canonical(IEnumerable<(long Factor, string[] Symbols)> of)
    {
        var sums = new SortedDictionary<string, (long Factor, string[] Symbols)>(StringComparer.Ordinal);
        foreach (var (factor, symbols) in of)
        {
            // The number comes last.
            var key = symbols.Length == 0 ? "\uffff" : string.Join('*', symbols);
            if (Sum(sums.GetValueOrDefault(key).Factor, factor) is not { } sum)
                return null;
            sums[key] = (sum, symbols);
        }
        var terms = sums.Values.Where(t => t.Factor != 0).ToArray();
        return terms.Length > MostTerms ? null : new Dim(terms);
    }

    private static long? Sum(long a, long b)
    {
        var sum = (Int128)a + b;
        return sum >= long.MinValue / 4 && sum <= long.MaxValue / 4 ? (long)sum : null;
    }

    private static long? Product(long a, long b)
    {
        var product = (Int128)a * b;
        return product >= long.MinValue / 4 && product <= long.MaxValue / 4 ? (long)product : null;
    }

    private static long Floor(long a, long by) => a >= 0 ? a / by : -((-a + by - 1) / by);
}
