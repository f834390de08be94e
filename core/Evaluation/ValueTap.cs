using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Onnx;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Runs a model on samples and shows values from inside it, one sample's at a time. A large model runs segment by
/// segment, so that neither all its weights nor all its values are in memory together.
/// </summary>
public static class ValueTap
{
    /// <summary>Sees the value of one sample: its name, its elements as floats, its dimensions.</summary>
    public delegate void See(string name, ReadOnlySpan<float> values, ReadOnlySpan<long> shape);

    /// <summary>Runs the samples.</summary>
    /// <param name="folder">Local folder that holds the model.</param>
    /// <param name="index">The model.</param>
    /// <param name="names">Values to show, as <see cref="SubgraphTaps.Name"/> calls them: made by nodes, or inputs.</param>
    /// <param name="samples">The samples.</param>
    /// <param name="see">Called for each value that is a float tensor and each sample, samples in order for each value.</param>
    /// <param name="seen">Called with the values that all samples have shown.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime does not load or run the model.</exception>
    public static async Task RunAsync(
        string folder, ModelIndex index, IReadOnlySet<string> names, IReadOnlyList<Sample> samples, See see, Func<IReadOnlyList<string>, Task> seen, CancellationToken cancellation)
    {
        var model = index.Model.Clone();
        SubgraphTaps.Lift(model, names);
        var segments = Segment.Of(model, index.Bytes > ModelRunner.WholeLimit ? ModelRunner.SegmentLimit : long.MaxValue);
        var live = samples.Select(s => s.Inputs.ToDictionary(i => i.Key, i => i.Value.ToOrt())).ToList();
        try
        {
            var inputs = names.Where(n => live.Count > 0 && live[0].ContainsKey(n)).ToList();
            foreach (var name in inputs)
                foreach (var values in live) Show(name, values[name], see);
            await seen(inputs);
            for (var s = 0; s < segments.Count && live.Count > 0; s++)
            {
                var segment = segments[s];
                var made = segment.Nodes.SelectMany(n => n.Output).Where(names.Contains).ToHashSet(StringComparer.Ordinal);
                var outputs = segment.Outputs.Union(made).ToList();
                var later = segments.Skip(s + 1).SelectMany(x => x.Inputs).ToHashSet(StringComparer.Ordinal);
                var tapped = segment with { Outputs = outputs };
                var types = segment.Inputs.ToDictionary(n => n, n => (int)live[0][n].GetTensorTypeAndShape().ElementDataType);
                using var options = ModelRunner.Options();
                options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder);
                using var session = new InferenceSession(tapped.ToModel(model, types).ToByteArray(), options);
                foreach (var values in live)
                {
                    var (results, _) = ModelRunner.Run(session, segment.Inputs.ToDictionary(n => n, n => values[n]), outputs, cancellation);
                    foreach (var (name, value) in outputs.Zip(results))
                    {
                        if (made.Contains(name)) Show(name, value, see);
                        if (later.Contains(name)) values[name] = value;
                        else value.Dispose();
                    }
                    foreach (var done in values.Keys.Where(k => !later.Contains(k)).ToList())
                    {
                        values[done].Dispose();
                        values.Remove(done);
                    }
                }
                await seen([.. made]);
            }
        }
        finally
        {
            foreach (var v in live.SelectMany(l => l.Values)) v.Dispose();
        }
    }

    private static void Show(string name, OrtValue value, See see)
    {
        if (!value.IsTensor) return;
        var info = value.GetTensorTypeAndShape();
        if (!ElementTypes.IsFloat(info.ElementDataType)) return;
        if (info.ElementDataType == TensorElementType.Float)
        {
            see(name, value.GetTensorDataAsSpan<float>(), info.Shape);
            return;
        }
        var bytes = value.GetTensorMutableRawData();
        var floats = new float[info.ElementCount];
        for (var i = 0; i < floats.Length; i++) floats[i] = (float)ElementTypes.Get(bytes, info.ElementDataType, i);
        see(name, floats, info.Shape);
    }
}
