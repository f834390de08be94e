using System.ComponentModel.DataAnnotations;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>What the rows of a table weigh by.</summary>
public enum TokenFrequencies
{
    /// <summary>How often each is looked up in the data, plus the smoothing; alike where there is no data.</summary>
    Data,

    /// <summary>All alike.</summary>
    None,
}

/// <summary>Options of <see cref="Embedding"/>; one of ratio, energy and rank, or none for a ratio of 0.5.</summary>
public sealed record EmbeddingOptions
{
    /// <summary>Weights of both factors over those of the table (default 0.5).</summary>
    [Range(0.01, 0.99)]
    public double? Ratio { get; init; }

    /// <summary>Share of the table's squared, weighted length that is kept: the rank follows.</summary>
    [Range(0.01, 1)]
    public double? Energy { get; init; }

    /// <summary>Rank, the same for every table.</summary>
    [Range(1, 1 << 20)]
    public int? Rank { get; init; }

    /// <summary>
    /// What rows weigh by: data (default; how often each is looked up there, plus the smoothing) or none (all alike, as without data).
    /// </summary>
    public TokenFrequencies Frequencies { get; init; } = TokenFrequencies.Data;

    /// <summary>Added to each row's count (default 1); large ones make rows alike.</summary>
    [Range(0.001, 1000000)]
    public double Smoothing { get; init; } = 1;

    /// <summary>Samples to count in, at most half of the data (default 1024).</summary>
    [Range(1, 1000000)]
    public int Samples { get; init; } = 1024;
}

/// <summary>
/// A table of V vectors of E becomes one of V vectors of k and a matrix k × E (Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised
/// Learning of Language Representations", section 3.1, factorized embedding parameterization), by the singular value decomposition of the
/// table with each row weighted by its frequency. An output embedding that is tied to the table stays tied: (h·Bᵀ)·Aᵀ.
/// </summary>
public sealed class Embedding : GraphTechnique<EmbeddingOptions>
{
    private const double DefaultRatio = 0.5;

    /// <summary>Field of the report.</summary>
    public const string Field = "embeddings";

    /// <inheritdoc/>
    public override string Step => "share";

    /// <inheritdoc/>
    public override string Method => "embedding";

    /// <inheritdoc/>
    public override string About => "An embedding becomes a narrower one and a matrix, by frequency of its rows (Lan et al. 2020, ALBERT).";

    /// <inheritdoc/>
    public override bool Repeats => true;

    /// <inheritdoc/>
    public override string? WhyNotOn(ModelTraits before)
    {
        if (before.HasFlag(ModelTraits.Coded))
            return "'share' takes embeddings before they are rounded: put it in front of 'quantize'";
        return before.HasFlag(ModelTraits.Masked)
            ? "factors of a pruned embedding hold no zeros: put 'share' in front of 'prune', which then prunes the factors"
            : null;
    }

    /// <inheritdoc/>
    protected override string? WhyInvalid(EmbeddingOptions options) =>
        new object?[] { options.Ratio, options.Energy, options.Rank }.Count(o => o is not null) > 1
            ? "give one of 'ratio', 'energy' and 'rank'"
            : null;

    /// <inheritdoc/>
    protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, EmbeddingOptions options) =>
        options.Frequencies == TokenFrequencies.Data
        && EmbeddingTable.Of(model).Any(t => WhyNot(t, options) is null && TokenCounts.Inputs(t).Count > 0)
            ? GraphNeeds.ToTry(options.Samples)
            : GraphNeeds.None;

    /// <inheritdoc/>
    protected override async Task ApplyAsync(GraphWork work, EmbeddingOptions options, CancellationToken cancellation)
    {
        var tables = EmbeddingTable.Of(work.Model).Select(t => (Table: t, Why: work.WhySkipped(t.Weight) ?? WhyNot(t, options))).ToList();
        var taken = tables.Where(t => t.Why is null).Select(t => t.Table).ToList();
        var counts = await CountsAsync(work, taken, options, cancellation);
        var notes = new List<NotedEmbedding>();
        notes.AddRange(
            tables
                .Where(t => t.Why is not null)
                .Select(t => NotedEmbedding.Left(t.Table.Weight.Name, t.Table.Rows, t.Table.Columns, t.Why!))
        );
        var (edit, found) = (new ModelEdit(work.Model), new List<(EmbeddingTable Table, FoundTable Factors)>());
        for (var i = 0; i < taken.Count; i++)
        {
            var (table, seen) = (taken[i], counts[i]);
            var weights = new double[table.Rows];
            for (var r = 0; r < weights.Length; r++)
                weights[r] = options.Smoothing + (seen.Length > 0 ? seen[r] : 0);
            var factors = await new TableFactors(work, table, weights).FindAsync(
                MostRank(table, options),
                options.Energy ?? 1,
                cancellation
            );
            notes.Add(
                factors is null
                    ? NotedEmbedding.Left(
                        table.Weight.Name,
                        table.Rows,
                        table.Columns,
                        "it holds NaN, infinity or zeros alone, or its type does not hold the factors"
                    )
                    : new NotedEmbedding(table.Weight.Name, table.Rows, table.Columns, factors.Rank)
                    {
                        Tied = table.IsTied,
                        Counted = seen.Sum(),
                        WeightedError = factors.WeightedError,
                        Error = factors.Error,
                    }
            );
            if (factors is not null)
                found.Add((table, factors));
        }
        foreach (var (table, factors) in found)
            await ReplaceAsync(work, edit, table, factors, cancellation);
        new ModelEdit(work.Model).DropDead(cancellation);
        work.Note(work.FreshField(Field), notes);
    }

    private static async Task ReplaceAsync(
        GraphWork work,
        ModelEdit edit,
        EmbeddingTable table,
        FoundTable factors,
        CancellationToken cancellation
    )
    {
        TensorProto Tensor(params long[] dims)
        {
            var tensor = new TensorProto { DataType = table.Weight.Type };
            tensor.Dims.AddRange(dims);
            return tensor;
        }
        var (left, right) = (Tensor(table.Rows, factors.Rank), Tensor(factors.Rank, table.Columns));
        TensorRef.Point(left, factors.Location, 0, factors.Length);
        await work.KeepAsync(right, FloatConversion.FromFloat(factors.Right, table.Weight.Type), cancellation);
        var before = table.Weight.Reference.Length;
        var (a, b) = table.Replace(edit, left, right);
        work.Changed.Add(new ChangedLayer(a, before / 2));
        work.Changed.Add(new ChangedLayer(b, before / 2));
    }

    private static async Task<IReadOnlyList<long[]>> CountsAsync(
        GraphWork work,
        IReadOnlyList<EmbeddingTable> tables,
        EmbeddingOptions options,
        CancellationToken cancellation
    )
    {
        var inputs = tables.Select(TokenCounts.Inputs).ToList();
        if (options.Frequencies == TokenFrequencies.None || inputs.All(i => i.Count == 0))
            return [.. tables.Select(_ => Array.Empty<long>())];
        work.RunsModel();
        var trials = work.Trials!;
        if (!trials.IsData)
            return [.. tables.Select(_ => Array.Empty<long>())];
        return TokenCounts.Of(await trials.ReadAsync(trials.Samples, cancellation), inputs, [.. tables.Select(t => t.Rows)], cancellation);
    }

    private static string? WhyNot(EmbeddingTable table, EmbeddingOptions options)
    {
        if (table.WhyNot() is { } why)
            return why;
        var rank = MostRank(table, options);
        return rank < 1 || rank * (table.Rows + table.Columns) >= table.Rows * table.Columns
            ? $"at rank {rank} it would be no smaller"
            : null;
    }

    // By energy, the largest rank at which the factors are smaller.
    private static int MostRank(EmbeddingTable table, EmbeddingOptions options)
    {
        var (both, whole) = (table.Rows + table.Columns, table.Rows * table.Columns);
        var smaller = (whole - 1) / both;
        return (int)(
            options switch
            {
                { Rank: { } rank } => rank,
                { Energy: not null } => smaller,
                _ => Math.Min(smaller, (long)((options.Ratio ?? DefaultRatio) * whole / both)),
            }
        );
    }
}

/// <summary>A table of vectors, as reports have it.</summary>
/// <param name="Name">The weight.</param>
/// <param name="Rows">Vectors.</param>
/// <param name="Columns">Their length.</param>
/// <param name="Rank">Length of the narrower vectors; 0 where the table stays.</param>
public sealed record NotedEmbedding(string Name, long Rows, int Columns, int Rank)
{
    /// <summary>Whether the output is made with it too.</summary>
    public bool Tied { get; init; }

    /// <summary>Indices that were counted in the data; 0 where rows weigh alike.</summary>
    public long Counted { get; init; }

    /// <summary>Relative error, rows weighted by frequency; null where the table stays.</summary>
    public double? WeightedError { get; init; }

    /// <summary>Relative error, rows weighted alike; null where the table stays.</summary>
    public double? Error { get; init; }

    /// <summary>Why the table stays, or null.</summary>
    public string? Reason { get; init; }

    internal static NotedEmbedding Left(string name, long rows, int columns, string reason) =>
        new(name, rows, columns, 0) { Reason = reason };
}
