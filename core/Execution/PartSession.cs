using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>A part of a model, loaded when the first sample has shown what its inputs are.</summary>
/// <param name="part">The part.</param>
/// <param name="build">Makes it a model.</param>
/// <param name="folder">Local folder of its weights.</param>
/// <param name="abreast">How many samples run beside each other.</param>
internal sealed class PartSession(Segment part, Func<ModelProto> build, string folder, Abreast abreast) : IDisposable
{
    private InferenceSession? session;

    /// <summary>Runs the part on the live values of samples, beside each other.</summary>
    /// <param name="outputs">Values to compute.</param>
    /// <param name="live">Where its inputs are.</param>
    /// <param name="samples">The samples.</param>
    /// <param name="last">Inputs that nothing takes afterwards.</param>
    /// <param name="take">Takes each output of each sample, samples in order, and owns it.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>Time in ONNX Runtime, a sample each.</returns>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime does not load or run it.</exception>
    public IReadOnlyList<TimeSpan> Run(
        IReadOnlyCollection<string> outputs,
        LiveValues live,
        IReadOnlyList<int> samples,
        IReadOnlySet<string> last,
        Action<int, string, OrtValue> take,
        CancellationToken cancellation
    )
    {
        session ??= ModelRunner.Open(build(), folder, abreast.Threads);
        var lent = samples.Select(_ => new Dictionary<string, Lent>(StringComparer.Ordinal)).ToList();
        var results = new (IDisposableReadOnlyCollection<OrtValue>? Values, TimeSpan Time)[samples.Count];
        var taken = 0;
        try
        {
            for (var i = 0; i < samples.Count; i++)
                foreach (var name in part.Inputs)
                    lent[i][name] = live.Lend(samples[i], name, last.Contains(name));
            var tooFewThreads = abreast.Measure(() => Abreast.Beside(samples.Count, samples.Count, RunOne, cancellation));
            for (; taken < samples.Count; taken++)
                foreach (var (name, value) in outputs.Zip(results[taken].Values!))
                    take(samples[taken], name, value);
            if (tooFewThreads)
                Dispose();
            return [.. results.Select(r => r.Time)];
        }
        finally
        {
            foreach (var l in lent.SelectMany(l => l.Values))
                if (l.Own)
                    l.Value.Dispose();
            foreach (var (values, _) in results.Skip(taken))
                values?.Dispose();
        }

        void RunOne(int i)
        {
            var inputs = lent[i].ToDictionary(l => l.Key, l => l.Value.Value);
            results[i] = ModelRunner.Run(session, inputs, outputs, cancellation);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        session?.Dispose();
        session = null;
    }
}
