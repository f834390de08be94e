using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Pruning.Blocks;

/// <summary>
/// Block Influence (Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", eq. 1):
/// 1 − E[xᵀy / (‖x‖‖y‖)], x and y being the channels of a block's input and output at one position, over all positions of all samples.
/// The model itself puts out xᵀx, yᵀy and xᵀy of each position: both values are there at once, and neither is kept.
/// </summary>
internal static class BlockInfluence
{
    private const int Sums = 3,
        AxesAsInput = 13;

    /// <summary>Measures blocks.</summary>
    /// <param name="trials">The model and the samples.</param>
    /// <param name="blocks">The blocks.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>The influence of each block, 0 to 2; null where a value is not finite, or no sample reached it.</returns>
    public static async Task<IReadOnlyList<double?>> OfAsync(
        ModelTrials trials,
        IReadOnlyList<GraphBlock> blocks,
        CancellationToken cancellation
    )
    {
        var model = trials.Model.Model.Clone();
        var names = Add(model, blocks);
        var means = names.Select((name, i) => (name, Mean: new Mean(blocks[i].Axis))).ToDictionary(p => p.name, p => p.Mean);
        await ValueTap.RunAsync(
            await trials.FolderAsync(cancellation),
            trials.Model with
            {
                Model = model,
            },
            names.ToHashSet(StringComparer.Ordinal),
            await trials.ReadAsync(trials.Samples, cancellation),
            (name, values, shape) => means[name].Add(values, shape),
            _ => Task.CompletedTask,
            cancellation
        );
        return [.. names.Select(n => means[n].Influence)];
    }

    // For each block the sums along the channels, beside each other where the channels were.
    private static List<string> Add(ModelProto model, IReadOnlyList<GraphBlock> blocks)
    {
        var edit = new ModelEdit(model);
        var main = edit.Roots[0];
        var facts = new GraphFacts(model).Main;
        var (nodes, floats, sums) = (
            new List<NodeProto>(),
            new Dictionary<string, string>(StringComparer.Ordinal),
            new Dictionary<(string, string, int), string>()
        );
        var names = blocks
            .Select(b =>
                Append(
                    "Concat",
                    [Sum(b.Input, b.Input, b.Axis), Sum(b.Output, b.Output, b.Axis), Sum(b.Input, b.Output, b.Axis)],
                    ModelEdit.Attribute("axis", (long)b.Axis)
                )
            )
            .ToList();
        model.Graph.Node.AddRange(nodes);
        return names;

        string Sum(string x, string y, int axis)
        {
            if (sums.TryGetValue((x, y, axis), out var known))
                return known;
            var product = Append("Mul", [Float(x), Float(y)]);
            return sums[(x, y, axis)] =
                main.Opset < AxesAsInput
                    ? Append("ReduceSum", [product], ModelEdit.Attribute("axes", [axis]), ModelEdit.Attribute("keepdims", 1L))
                    : Append("ReduceSum", [product, edit.Int64s(main, axis)], ModelEdit.Attribute("keepdims", 1L));
        }

        string Float(string value)
        {
            if (facts.Type(value) == DataType.Float)
                return value;
            if (!floats.TryGetValue(value, out var cast))
                floats[value] = cast = Append("Cast", [value], ModelEdit.Attribute("to", (long)DataType.Float));
            return cast;
        }

        string Append(string op, string[] inputs, params AttributeProto[] attributes)
        {
            var output = edit.FreshName("influence");
            nodes.Add(ModelEdit.Node(op, inputs, [output], attributes));
            return output;
        }
    }

    private sealed class Mean(int axis)
    {
        private double sum;
        private long count;

        public double? Influence => count > 0 && double.IsFinite(sum) ? Math.Clamp(1 - sum / count, 0, 2) : null;

        public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
        {
            var inner = 1;
            foreach (var length in shape[(axis + 1)..])
                inner *= (int)length;
            for (var start = 0; start < values.Length; start += Sums * inner)
            for (var i = start; i < start + inner; i++)
                sum += Cosine(values[i], values[i + inner], values[i + 2 * inner]);
            count += values.Length / Sums;
        }

        // Two vectors of zeros are the same.
        private static double Cosine(double xx, double yy, double xy) =>
            xx == 0 && yy == 0 ? 1
            : xx == 0 || yy == 0 ? 0
            : xy / (Math.Sqrt(xx) * Math.Sqrt(yy));
    }
}
