using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>A block with the values of its constants, its units in some order.</summary>
/// <param name="Block">The block.</param>
/// <param name="Groups">Units that may take another order.</param>
/// <param name="Values">Its matrices, and constants that units lie along, by name.</param>
/// <param name="Importance">How much each element of a matrix weighs, by name; none where all weigh alike.</param>
internal sealed record BlockValues(
    RepeatedBlock Block,
    IReadOnlyList<UnitGroup> Groups,
    IReadOnlyDictionary<string, float[]> Values,
    IReadOnlyDictionary<string, float[]> Importance
)
{
    /// <summary>Reads a block; null where a constant holds NaN or infinity.</summary>
    /// <param name="work">The model.</param>
    /// <param name="block">The block.</param>
    /// <param name="groups">Units that may take another order.</param>
    /// <param name="squares">Mean square of what each matrix takes, input by input, by name.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public static async Task<BlockValues?> ReadAsync(
        GraphWork work,
        RepeatedBlock block,
        IReadOnlyList<UnitGroup> groups,
        IReadOnlyDictionary<string, double[]> squares,
        CancellationToken cancellation
    )
    {
        var (values, importance) = (
            new Dictionary<string, float[]>(StringComparer.Ordinal),
            new Dictionary<string, float[]>(StringComparer.Ordinal)
        );
        var tensors = work.Model.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        foreach (var name in block.Matrices.Select(m => m.Value).Concat(groups.SelectMany(g => g.Axes).Select(a => a.Name)).Distinct())
        {
            var bytes = await work.ReadAsync(tensors[name], cancellation);
            var floats = new float[TensorRef.Count(tensors[name].Dims) ?? 0];
            FloatConversion.ToFloat(bytes.Span, tensors[name].DataType, floats);
            if (!Array.TrueForAll(floats, float.IsFinite))
                return null;
            values[name] = floats;
        }
        foreach (var matrix in block.Matrices)
            if (squares.TryGetValue(matrix.Value, out var of))
                importance[matrix.Value] = Spread(LayerShape.Of(matrix), of);
        return new BlockValues(block, groups, values, importance);
    }

    /// <summary>The values of a matrix.</summary>
    public float[] Matrix(int number) => Values[Block.Matrices[number].Value];

    /// <summary>How much its elements weigh; null where all weigh alike.</summary>
    public float[]? Weights(int number) => Importance.GetValueOrDefault(Block.Matrices[number].Value);

    /// <summary>The same block with the units of a group in another order.</summary>
    /// <param name="group">The group.</param>
    /// <param name="order">The unit that each place takes.</param>
    public BlockValues Permuted(UnitGroup group, int[] order)
    {
        var (values, importance) = (
            new Dictionary<string, float[]>(Values, StringComparer.Ordinal),
            new Dictionary<string, float[]>(Importance, StringComparer.Ordinal)
        );
        foreach (var axis in group.Axes)
        {
            values[axis.Name] = axis.Permuted(values[axis.Name], order);
            if (importance.TryGetValue(axis.Name, out var weights))
                importance[axis.Name] = axis.Permuted(weights, order);
        }
        return this with { Values = values, Importance = importance };
    }

    private static float[] Spread(LayerShape shape, double[] of)
    {
        var spread = new float[shape.Elements];
        for (long i = 0; i < spread.Length; i++)
            spread[i] = (float)of[i / shape.Inner % shape.Axis];
        return spread;
    }
}
