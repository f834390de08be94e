using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Runs;

/// <summary>
/// Codes the byte constants of a model at their entropy (core/docs/entropy.md): codes of any grid, places of weights, and codes that the
/// model came with. Where it pays, they become one stream that is decoded while the model is loaded.
/// </summary>
/// <param name="Saved">Bytes saved in each object of the store that constants were in.</param>
/// <param name="Constants">Constants coded.</param>
/// <param name="BytesBefore">Their bytes.</param>
/// <param name="BytesAfter">Bytes of the stream, its tables and its decoder.</param>
internal sealed record CodedConstants(IReadOnlyDictionary<string, long> Saved, int Constants, long BytesBefore, long BytesAfter)
{
    private const double MostOfFile = 0.98;

    /// <summary>Codes the constants of a model.</summary>
    /// <param name="readAsync">Reads the bytes of one.</param>
    /// <param name="model">The model, its layers in place.</param>
    /// <param name="seconds">Seconds that loading the stream may take.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The model with coded constants, which is another one where it is smaller; and why constants were not coded, or null.</returns>
    public static async Task<(ModelProto Model, CodedConstants? Coded, string? WhyNot)> ApplyAsync(
        Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> readAsync,
        ModelProto model,
        double seconds,
        CancellationToken cancellation
    )
    {
        var smaller = model.Clone();
        var edit = new ModelEdit(smaller);
        var (constants, left) = Choose(edit);
        if (constants.Count == 0)
            return (model, null, null);
        if (RansNodes.WhyNot(edit.Roots[0]) is { } why)
            return (model, null, $"Codes are not stored at their entropy: {why}.");
        var bytes = new List<ReadOnlyMemory<byte>>();
        foreach (var (_, tensor) in constants)
            bytes.Add(await readAsync(tensor, cancellation));
        if (await Task.Run(() => EntropyCoding.Code(bytes, seconds, cancellation), cancellation) is not { } result)
            return (model, null, null);
        var (saved, before) = (new Dictionary<string, long>(StringComparer.Ordinal), Written(smaller));
        var coded = constants
            .Select((c, i) => (c.Tensor, Before: (long)bytes[i].Length, After: result.Bytes[i]))
            .Where(c => c.After > 0)
            .ToList();
        foreach (var (tensor, length, after) in coded)
            if (TensorRef.From(tensor, tensor.Name).File is { } file)
            {
                saved[file] = saved.GetValueOrDefault(file) + length - after;
                before += length;
            }
        if (edit.Roots[0].Opset < RansNodes.OldestOpset)
            OpsetRaise.To11(edit);
        RansNodes.Add(edit, result.Stream, constants);
        // Loading takes longer: not for next to nothing.
        if (Written(smaller) >= before * MostOfFile)
            return (model, null, null);
        return (
            smaller,
            new CodedConstants(saved, coded.Count, coded.Sum(c => c.Before), coded.Sum(c => c.After)),
            left == 0
                ? null
                : $"{left} constants are not stored at their entropy: decoding more than {EntropyCoding.MostBytes >> 20} MB takes too much memory."
        );
    }

    // Locations of bytes are not written, and the bytes there are not counted.
    private static long Written(ModelProto model) =>
        model.CalculateSize() - ModelIndex.Tensors(model).Sum(t => t.Tensor.ExternalData.Sum(e => (long)e.CalculateSize()));

    // Of initializers that no caller gives and that are no outputs, the largest, as many as a stream may hold; in the order of the file.
    private static (IReadOnlyList<(GraphScope Scope, TensorProto Tensor)> Constants, int Left) Choose(ModelEdit edit)
    {
        var graphs = edit.Roots[0].All().Where(s => s.Graph is not null).ToList();
        var given = graphs.SelectMany(s => s.Graph!.Input.Concat(s.Graph.Output)).Select(v => v.Name).ToHashSet(StringComparer.Ordinal);
        var names = graphs
            .SelectMany(s => s.Graph!.Initializer.Select(t => t.Name).Concat(s.Nodes.SelectMany(n => n.Output)))
            .CountBy(n => n)
            .ToDictionary(StringComparer.Ordinal);
        var found = graphs
            .SelectMany(s => s.Graph!.Initializer.Select(t => (Scope: s, Tensor: t)))
            .Where(c => (DataType)c.Tensor.DataType is DataType.Uint8 or DataType.Int8)
            .Select((c, i) => (c.Scope, c.Tensor, Bytes: TensorRef.From(c.Tensor, c.Tensor.Name).Elements, Index: i))
            .Where(c => c.Bytes >= EntropyCoding.SmallestConstant && !given.Contains(c.Tensor.Name) && names[c.Tensor.Name] == 1)
            .OrderByDescending(c => c.Bytes)
            .ToList();
        var sum = 0L;
        var taken = found.Where(c => c.Bytes <= EntropyCoding.MostBytes - sum && (sum += c.Bytes) > 0).ToList();
        return ([.. taken.OrderBy(c => c.Index).Select(c => (c.Scope, c.Tensor))], found.Count - taken.Count);
    }
}
