using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model;

namespace Serverless.Core.Execution;

/// <summary>
/// Runs a model on samples and shows values from inside it, those of the samples that run beside each other at a time. A large model
/// runs segment by segment, so that neither all its weights nor all its values are in memory together.
/// </summary>
public static class ValueTap
{
    /// <summary>
    /// Sees the value of one sample: its name, its elements as floats, its dimensions. Values of different names are seen on different
    /// threads.
    /// </summary>
    public delegate void See(string name, ReadOnlySpan<float> values, ReadOnlySpan<long> shape);

    /// <summary>Runs the samples.</summary>
    /// <param name="folder">Local folder that holds the model.</param>
    /// <param name="index">The model.</param>
    /// <param name="names">Values to show, as <see cref="SubgraphTaps.Name"/> calls them: made by nodes, or inputs.</param>
    /// <param name="samples">The samples; read once, as many at a time as run beside each other.</param>
    /// <param name="see">Called for each value that is a float tensor and each sample, samples in order for each value.</param>
    /// <param name="seen">Called with the values that all samples have shown.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>How many samples there were.</returns>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime does not load or run the model.</exception>
    public static async Task<int> RunAsync(
        string folder,
        ModelIndex index,
        IReadOnlySet<string> names,
        IEnumerable<Sample> samples,
        See see,
        Func<IReadOnlyList<string>, Task> seen,
        CancellationToken cancellation
    )
    {
        var model = index.Model.Clone();
        SubgraphTaps.Lift(model, names);
        var segments = Segment.Of(model, index.Bytes > ModelRunner.WholeLimit ? ModelRunner.SegmentLimit : long.MaxValue, names);
        var (lastUses, functions) = (Segment.LastUses(segments, new HashSet<string>()), new FunctionCalls(model));
        var taken = segments.SelectMany(s => s.Inputs).ToHashSet(StringComparer.Ordinal);
        using var live = new LiveValues();
        var abreast = new Abreast(alone: RandomSeeds.Draws(model));
        var (count, shown) = (0, new HashSet<string>(StringComparer.Ordinal));
        for (var s = 0; s < segments.Count; s++)
        {
            var segment = segments[s];
            var made = segment.Nodes.SelectMany(n => n.Output).Where(names.Contains).ToHashSet(StringComparer.Ordinal);
            var outputs = segment.Outputs.Union(made).ToList();
            var kept = segment.Outputs.Where(taken.Contains).ToHashSet(StringComparer.Ordinal);
            using (
                var session = new PartSession(
                    segment,
                    () => (segment with { Outputs = outputs }).ToModel(model, functions, n => ModelRunner.Input(n, live.Type(n))),
                    folder,
                    abreast
                )
            )
                foreach (var group in abreast.Groups(s == 0 ? Enter() : Enumerable.Range(0, count)))
                {
                    // Inputs alone are asked for.
                    if (outputs.Count == 0)
                        continue;
                    var values = new List<(int Sample, string Name, OrtValue Value)>();
                    try
                    {
                        session.Run(outputs, live, group, lastUses[s], (i, name, value) => values.Add((i, name, value)), cancellation);
                        Show([.. values.Where(v => made.Contains(v.Name)).Select(v => (v.Name, v.Value))], see, cancellation);
                        foreach (var (i, name, value) in values.Where(v => kept.Contains(v.Name)))
                            live.Keep(i, name, value);
                    }
                    finally
                    {
                        foreach (var v in values.Where(v => !kept.Contains(v.Name)))
                            v.Value.Dispose();
                    }
                }
            if (count > 0)
                await seen([.. s == 0 ? shown.Union(made) : made]);
        }
        return count;

        // The first part takes the samples as they are read: where it is the only one, none outlives its run.
        IEnumerable<int> Enter()
        {
            foreach (var sample in samples)
            {
                foreach (var (name, input) in sample.Inputs)
                {
                    var value = input.ToOrt();
                    if (names.Contains(name))
                    {
                        shown.Add(name);
                        Show(name, value, see);
                    }
                    if (taken.Contains(name))
                        live.Keep(count, name, value);
                    else
                        value.Dispose();
                }
                yield return count++;
            }
        }
    }

    // To see a value takes about as long as to compute it: values beside each other, the samples of each in order.
    private static void Show(IReadOnlyList<(string Name, OrtValue Value)> values, See see, CancellationToken cancellation)
    {
        var byName = values.GroupBy(v => v.Name, StringComparer.Ordinal).ToList();
        Abreast.Beside(
            byName.Count,
            Environment.ProcessorCount,
            i =>
            {
                foreach (var (name, value) in byName[i])
                    Show(name, value, see);
            },
            cancellation
        );
    }

    internal static void Show(string name, OrtValue value, See see)
    {
        if (!value.IsTensor)
            return;
        var info = value.GetTensorTypeAndShape();
        if (!ElementTypes.IsFloat(info.ElementDataType))
            return;
        if (info.ElementDataType == TensorElementType.Float)
        {
            see(name, value.GetTensorDataAsSpan<float>(), info.Shape);
            return;
        }
        var bytes = value.GetTensorMutableRawData();
        var floats = new float[info.ElementCount];
        for (var i = 0; i < floats.Length; i++)
            floats[i] = (float)ElementTypes.Get(bytes, info.ElementDataType, i);
        see(name, floats, info.Shape);
    }
}
