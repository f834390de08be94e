using Serverless.Core.Execution;
using Serverless.Core.Techniques.Quantization;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>What layers take and make in the model before it is cut.</summary>
internal sealed class Observed : IDisposable
{
    private const long MostOutputBytes = 256L << 20;
    private const int FewestRows = 16;

    private readonly Dictionary<int, LayerMoments> inputs = [];
    private readonly Dictionary<int, LayerOutputs> outputs = [];

    private readonly double damping;

    private Observed(int mostRows, double damping) => (MostRows, this.damping) = (mostRows, damping);

    /// <summary>Rows that are taken of a sample.</summary>
    public int MostRows { get; }

    /// <summary>Runs the samples.</summary>
    /// <param name="trials">The model and the samples.</param>
    /// <param name="layers">The layers.</param>
    /// <param name="keepOutputs">Whether rows of their outputs are kept.</param>
    /// <param name="damping">The least ridge of a fit, in proportion to each input's energy.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    public static async Task<Observed> OfAsync(
        ModelTrials trials,
        IReadOnlyList<LinearLayer> layers,
        bool keepOutputs,
        double damping,
        CancellationToken cancellation
    )
    {
        var each = 4L * Math.Max(1, trials.Samples) * Math.Max(1, layers.Sum(l => (long)l.Rows));
        var most = keepOutputs ? (int)Math.Clamp(MostOutputBytes / each, FewestRows, LayerMoments.MostRows) : LayerMoments.MostRows;
        var observed = new Observed(most, damping);
        foreach (var layer in layers)
        {
            observed.inputs[layer.Tensor] = new LayerMoments(layer.View);
            if (keepOutputs)
                observed.outputs[layer.Tensor] = new LayerOutputs(layer);
        }
        var takes = layers.ToLookup(l => l.View.Value, StringComparer.Ordinal);
        var makes = layers.Where(_ => keepOutputs).ToLookup(l => l.Output, StringComparer.Ordinal);
        await ValueTap.RunAsync(
            await trials.FolderAsync(cancellation),
            trials.Model,
            takes.Select(t => t.Key).Concat(makes.Select(m => m.Key)).ToHashSet(StringComparer.Ordinal),
            await trials.ReadAsync(trials.Samples, cancellation),
            (name, values, shape) =>
            {
                foreach (var layer in takes[name])
                    observed.inputs[layer.Tensor].Add(values, shape, most);
                foreach (var layer in makes[name])
                    observed.outputs[layer.Tensor].Add(values, shape, most);
            },
            _ => Task.CompletedTask,
            cancellation
        );
        return observed;
    }

    /// <summary>What a layer takes; null where no sample reached it.</summary>
    public LayerMoments? Input(LinearLayer layer) => inputs.GetValueOrDefault(layer.Tensor) is { Count: > 0 } seen ? seen : null;

    /// <summary>What a layer makes.</summary>
    public LayerOutputs Output(LinearLayer layer) => outputs[layer.Tensor];

    /// <summary>The option's damping, or that which so few rows call for.</summary>
    public double Damping(double[] moments, long rows) => Math.Max(damping, Hessian.Shrinkage(moments, rows));

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var input in inputs.Values)
            input.Dispose();
    }
}
