using System.ComponentModel.DataAnnotations;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Options of <see cref="Duplicates"/>.</summary>
public sealed record DuplicateOptions
{
    /// <summary>
    /// Relative distance ‖A − B‖ / max(‖A‖, ‖B‖) up to which float constants of one type and shape become their mean (default 0: equal
    /// bytes alone).
    /// </summary>
    [Range(0.0, 0.5)]
    public double Tolerance { get; init; }
}

/// <summary>
/// Constants of equal type, dimensions and bytes are stored once, wherever they lie: in the main graph, in branches of an If, in one
/// function. Equality is that of SHA-256 over the bytes, which are streamed. Near-equal ones of floats may become their mean.
/// </summary>
public sealed class Duplicates : GraphTechnique<DuplicateOptions>
{
    /// <summary>Bytes of the smallest constant that is looked at; a reference takes about as many.</summary>
    public const int Smallest = 128;

    // Earlier constants of about the same norm that one is compared with.
    private const int MostCompared = 64;

    /// <summary>Field of the report.</summary>
    public const string Field = "duplicates";

    /// <inheritdoc/>
    public override string Step => "share";

    /// <inheritdoc/>
    public override string Method => "duplicates";

    /// <inheritdoc/>
    public override string About => "Constants of equal bytes, or of nearly equal floats, are stored once.";

    /// <inheritdoc/>
    public override bool Repeats => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before) =>
        before.HasFlag(ModelTraits.Coded) ? "'share' joins weights before they are rounded: put it in front of 'quantize'" : null;

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, DuplicateOptions options, CancellationToken cancellation)
    {
        var (edit, distance, made) = (new ModelEdit(work.Model), new ConstantDistance(work), new List<SharedConstants>());
        var skipped = Weight
            .Of(work.Model, edit.Roots)
            .Where(w => work.WhySkipped(w) is not null)
            .Select(w => (w.Scope, w.Constant?.Output[0] ?? w.Tensor.Name))
            .ToHashSet();
        foreach (var root in edit.Roots)
        {
            var alike = StoredConstant
                .Of(root)
                .Where(c => DataTypes.Bits(c.Tensor.DataType) > 0 && c.Bytes >= Smallest && !skipped.Contains((c.Scope, c.Name)))
                .GroupBy(c => $"{c.Tensor.DataType}:{string.Join(',', c.Tensor.Dims)}", StringComparer.Ordinal)
                .Where(g => g.Skip(1).Any())
                .Select(g => g.ToList())
                .ToList();
            foreach (var group in alike)
            foreach (var same in await SameAsync(distance, group, options.Tolerance, cancellation))
                made.Add(await MergeAsync(work, edit, distance, same, cancellation));
        }
        work.Note(work.FreshField(Field), made);
    }

    // Equal ones first; of each such class one is compared with those before it.
    private static async Task<IEnumerable<SameConstants>> SameAsync(
        ConstantDistance distance,
        List<StoredConstant> alike,
        double tolerance,
        CancellationToken cancellation
    )
    {
        var classes = new Dictionary<string, SameConstants>(StringComparer.Ordinal);
        foreach (var constant in alike)
        {
            var hash = await distance.HashAsync(constant.Tensor, cancellation);
            if (!classes.TryGetValue(hash, out var known))
                classes[hash] = known = new SameConstants([], []);
            known.All.Add(constant);
        }
        var found = classes.Values.OrderBy(c => alike.IndexOf(c.All[0])).ToList();
        if (tolerance > 0 && DataTypes.IsWeightType(alike[0].Tensor.DataType))
            found = await NearAsync(distance, found, tolerance, cancellation);
        return found.Where(c => c.All.Count > 1);
    }

    private static async Task<List<SameConstants>> NearAsync(
        ConstantDistance distance,
        List<SameConstants> classes,
        double tolerance,
        CancellationToken cancellation
    )
    {
        var near = new List<(SameConstants Group, double Norm)>();
        foreach (var next in classes)
        {
            var norm = await distance.NormAsync(next.All[0].Tensor, cancellation);
            var joined = false;
            foreach (var (group, _) in near.Where(g => IsNear(g.Norm, norm, tolerance)).TakeLast(MostCompared))
            {
                var apart = await distance.BetweenAsync(group.All[0].Tensor, next.All[0].Tensor, cancellation);
                if (!(apart <= tolerance))
                    continue;
                group.All.AddRange(next.All);
                group.Distances.Add(apart);
                joined = true;
                break;
            }
            if (!joined)
                near.Add((next, norm));
        }
        return [.. near.Select(n => n.Group)];
    }

    // ‖A − B‖ is at least the difference of the norms; NaN is near nothing.
    private static bool IsNear(double a, double b, double tolerance) =>
        double.IsFinite(a + b) && Math.Max(a, b) > 0 && Math.Abs(a - b) <= tolerance * Math.Max(a, b);

    private static async Task<SharedConstants> MergeAsync(
        GraphWork work,
        ModelEdit edit,
        ConstantDistance distance,
        SameConstants same,
        CancellationToken cancellation
    )
    {
        var (first, bytes) = (same.All[0], same.All[0].Bytes);
        if (same.Distances.Count > 0)
            await distance.MeanAsync([.. same.All.Select(c => c.Tensor)], first.Tensor, cancellation);
        var kept = StoredConstant.Merge(edit, same.All);
        work.Changed.Add(new ChangedLayer(kept, bytes * same.All.Count));
        return new SharedConstants(
            kept,
            [.. same.All.Skip(1).Select(c => c.Name)],
            bytes * (same.All.Count - 1),
            same.Distances.DefaultIfEmpty(0).Max()
        );
    }

    private sealed record SameConstants(List<StoredConstant> All, List<double> Distances);
}

/// <summary>Constants that are stored once, as reports have them.</summary>
/// <param name="Kept">Name of the one that is left.</param>
/// <param name="Others">Names of those that it stands for.</param>
/// <param name="BytesSaved">Bytes that are stored no more.</param>
/// <param name="Distance">Largest relative distance to the first of them; 0 where all are equal.</param>
public sealed record SharedConstants(string Kept, IReadOnlyList<string> Others, long BytesSaved, double Distance);
