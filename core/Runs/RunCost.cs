using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>What a run of the original on one sample takes.</summary>
/// <param name="Inputs">
/// Inputs that it is counted at: those of the first sample of the data, or of the first synthetic one; none where the model can be given
/// no inputs.
/// </param>
/// <param name="MultiplyAccumulates">Multiply-accumulates with stored weights.</param>
public sealed record RunCost(IReadOnlyDictionary<string, KnownInput> Inputs, long MultiplyAccumulates)
{
    /// <summary>Counts.</summary>
    /// <param name="index">The original.</param>
    /// <param name="data">Its samples, or null.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    internal static RunCost Of(ModelIndex index, NpzData? data, CancellationToken cancellation)
    {
        var first = data?.Read(0, cancellation).FirstOrDefault();
        IReadOnlyDictionary<string, KnownInput> inputs =
            first?.Inputs.ToDictionary(i => i.Key, i => i.Value.Known, StringComparer.Ordinal)
            ?? (InputSpec.WhyNone(index.Model) is null ? SyntheticInputs.Known(index.Model, InputSpec.Of(index.Model, index.Path)) : null)
            ?? new Dictionary<string, KnownInput>();
        return new RunCost(inputs, Total(index.Model, inputs));
    }

    /// <summary>The cost of a run's original.</summary>
    /// <param name="store">The store.</param>
    /// <param name="work">The run's work folder.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    internal static Task<RunCost> ReadAsync(IArtifactStore store, string work, CancellationToken cancellation) =>
        store.ReadJsonAsync<RunCost>(RunPaths.RunCost(work), cancellation);

    /// <summary>Multiply-accumulates by weight, at the same shapes.</summary>
    /// <param name="model">A state of the model.</param>
    public IReadOnlyDictionary<string, long> Of(ModelProto model) => Model.MultiplyAccumulates.Of(model, Inputs);

    /// <summary>Shapes of the values of the main graph, at the same inputs; null where one does not follow from them.</summary>
    /// <param name="model">A state of the model.</param>
    public Func<string, IReadOnlyList<long>?> ShapesOf(ModelProto model)
    {
        var facts = new GraphFacts(KnownInput.GiveAll(model, Inputs)).Main;
        return value =>
            facts.Shape(value) is { } shape && shape.All(d => d.Value is not null) ? [.. shape.Select(d => d.Value!.Value)] : null;
    }

    /// <summary>Multiply-accumulates of a layer once its chain is applied.</summary>
    /// <param name="before">Those of the layer.</param>
    /// <param name="elements">Its weights.</param>
    /// <param name="chain">The steps of the chain.</param>
    internal static long After(long before, long elements, IEnumerable<PlannedStep> chain) =>
        chain.Select(p => p.Plan.MultiplyAccumulates).LastOrDefault(m => m is not null) is { } each
            ? (long)((Int128)before * each / Math.Max(1, elements))
            : before;

    private static long Total(ModelProto model, IReadOnlyDictionary<string, KnownInput> inputs) =>
        Model.MultiplyAccumulates.Total(Model.MultiplyAccumulates.Of(model, inputs).Values);
}
