using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>
/// Runs a model stage by stage, all samples through one before the next, which is built only then: what was learned of a
/// layer may change the model behind it. Each node runs at most twice a sample, however many layers there are.
/// </summary>
internal static class StagedRun
{
    /// <summary>Runs the samples.</summary>
    /// <param name="model">The model; layers may be changed in <paramref name="done"/>.</param>
    /// <param name="folder">Local folder of its weights.</param>
    /// <param name="layers">Values of layers that end a stage each.</param>
    /// <param name="samples">The samples; read once, as many at a time as run beside each other.</param>
    /// <param name="live">Holds values between stages.</param>
    /// <param name="see">Sees the layer's value of each sample.</param>
    /// <param name="done">Called with a layer that all samples have passed.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <exception cref="LiveLimitException">The values between stages take too much.</exception>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime does not load or run the model.</exception>
    public static void Run(
        ModelProto model,
        string folder,
        IReadOnlySet<string> layers,
        IEnumerable<Sample> samples,
        LiveValues live,
        ValueTap.See see,
        Action<string> done,
        CancellationToken cancellation
    )
    {
        var stages = LayerStages.Of(model, layers);
        var functions = new FunctionCalls(model);
        var given = model.Graph.Input.ToDictionary(v => v.Name, StringComparer.Ordinal);
        var taken = stages.SelectMany(s => s.Part.Inputs).ToHashSet(StringComparer.Ordinal);
        var (count, abreast) = (0, new Abreast(alone: RandomSeeds.Draws(model)));
        for (var s = 0; s < stages.Count; s++)
        {
            cancellation.ThrowIfCancellationRequested();
            var (part, layer, last) = stages[s];
            // Sequences cannot be carried from one session to the next; layers behind them are left as they are.
            if (part.Inputs.Any(live.IsOther))
                return;
            using (
                var session = new PartSession(
                    part,
                    () => part.ToModel(model, functions, n => given.GetValueOrDefault(n) ?? live.Info(n)),
                    folder,
                    abreast
                )
            )
                foreach (var group in abreast.Groups(s == 0 ? Enter() : Enumerable.Range(0, count)))
                    session.Run(
                        part.Outputs,
                        live,
                        group,
                        last,
                        (i, name, value) =>
                        {
                            if (name != layer)
                            {
                                live.Keep(i, name, value);
                                return;
                            }
                            ValueTap.Show(name, value, see);
                            value.Dispose();
                        },
                        cancellation
                    );
            done(layer);
        }

        IEnumerable<int> Enter()
        {
            foreach (var sample in samples)
            {
                foreach (var (name, input) in sample.Inputs)
                    if (taken.Contains(name))
                        live.Keep(count, name, input.ToOrt());
                yield return count++;
            }
        }
    }
}
