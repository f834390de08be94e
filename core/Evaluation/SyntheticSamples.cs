using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Model;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Synthetic inputs that a model accepts: sizes of the dynamic axes are tried until one runs; what one value of an integer
/// input wants, another may not (a sample rate chooses the chunk's length), so each sample tries them in turn.
/// </summary>
internal static class SyntheticSamples
{
    /// <summary>Samples that models are compared on.</summary>
    public const int Count = 8;

    /// <summary>Makes samples.</summary>
    /// <param name="original">The model.</param>
    /// <param name="index">Its index.</param>
    /// <param name="firstSeed">Number of the first sample.</param>
    /// <param name="count">How many, at most.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <exception cref="BadInputException">The model accepts none.</exception>
    public static IEnumerable<Sample> Make(
        ModelRunner original,
        ModelIndex index,
        int firstSeed,
        int count,
        CancellationToken cancellation
    ) => new Trial(original, index, firstSeed, count, cancellation).InTurn().Select(t => t.Sample);

    /// <summary>Makes samples, and keeps the outputs of the runs that showed that they fit.</summary>
    /// <param name="original">The model.</param>
    /// <param name="index">Its index.</param>
    /// <param name="count">How many samples, at most.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>The samples, and the outputs of each and of the first once more.</returns>
    /// <exception cref="BadInputException">The model accepts none.</exception>
    public static (IReadOnlyList<Sample> Samples, IReadOnlyList<RunOutputs> Outputs) MakeAndRun(
        ModelRunner original,
        ModelIndex index,
        int count,
        CancellationToken cancellation
    )
    {
        var trial = new Trial(original, index, 0, count, cancellation);
        // A run that loads the whole model piece by piece is made once, for all samples.
        if (original.Segments > 1)
            return trial.AtOnce();
        var made = trial.InTurn().ToList();
        return ([.. made.Select(t => t.Sample)], [.. made.Select(t => t.Outputs!), .. original.Run([made[0].Sample], cancellation)]);
    }

    private sealed class Trial(ModelRunner original, ModelIndex index, int firstSeed, int count, CancellationToken cancellation)
    {
        private readonly IReadOnlyList<InputSpec> specs = InputSpec.Of(index.Model, index.Path);
        private OnnxRuntimeException? refused;

        private int Proposals => specs.All(s => s.Dims is { } d && d.All(x => x is not null)) ? 1 : SyntheticInputs.Proposals;

        public IEnumerable<(Sample Sample, RunOutputs? Outputs)> InTurn()
        {
            var (accepted, fitting) = (0, 0);
            for (var seed = firstSeed; accepted < count && seed < firstSeed + 2 * count; seed++)
            {
                // Where a run loads the whole model piece by piece, one is tried and the rest follow it.
                var follows = original.Segments > 1 && accepted > 0;
                (Sample, RunOutputs?)? made = follows ? (Propose(fitting, seed), null) : null;
                for (var proposal = 0; proposal < Proposals && made is null; proposal++)
                {
                    var candidate = Propose(proposal, seed);
                    if (Run([candidate]) is not { } outputs)
                        continue;
                    (made, fitting) = ((candidate, outputs[0]), proposal);
                }
                if (made is null && accepted == 0)
                    throw CannotRun(index, refused!);
                if (made is null)
                    continue;
                accepted++;
                yield return made.Value;
            }
        }

        public (IReadOnlyList<Sample> Samples, IReadOnlyList<RunOutputs> Outputs) AtOnce()
        {
            for (var proposal = 0; proposal < Proposals; proposal++)
            {
                var candidates = Enumerable.Range(firstSeed, count).Select(seed => Propose(proposal, seed)).ToList();
                if (Run([.. candidates, candidates[0]]) is { } outputs)
                    return (candidates, outputs);
            }
            throw CannotRun(index, refused!);
        }

        private Sample Propose(int proposal, int seed) => SyntheticInputs.Make(index.Model, specs, proposal, seed, index.Path);

        private IReadOnlyList<RunOutputs>? Run(IReadOnlyList<Sample> candidates)
        {
            try
            {
                return original.Run(candidates, cancellation);
            }
            catch (TimeoutException e)
            {
                throw CannotRun(index, e);
            }
            catch (OnnxRuntimeException e)
            {
                refused = e;
                return null;
            }
        }
    }

    /// <summary>What ONNX Runtime said about the original.</summary>
    /// <param name="index">The original.</param>
    /// <param name="e">The failure.</param>
    /// <param name="data">The data it was run on, or null for synthetic inputs.</param>
    internal static BadInputException CannotRun(ModelIndex index, Exception e, NpzData? data = null) =>
        new(
            data is null
                ? $"{index.Path}: ONNX Runtime cannot run the original model: {RuntimeMessage.Of(e)}; "
                    + "check the model, or drop a data.npz with inputs that it accepts."
                : $"{data.Path}: ONNX Runtime cannot run the original model on these samples: {RuntimeMessage.Of(e)}; "
                    + "check their values and shapes, or leave the data out.",
            e
        );
}
