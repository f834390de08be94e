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

    /// <summary>Makes the samples.</summary>
    /// <param name="original">The model.</param>
    /// <param name="index">Its index.</param>
    /// <param name="firstSeed">Number of the first sample.</param>
    /// <param name="count">How many, at most.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <exception cref="BadInputException">The model accepts none.</exception>
    public static IEnumerable<Sample> Make(ModelRunner original, ModelIndex index, int firstSeed, int count, CancellationToken cancellation)
    {
        var specs = InputSpec.Of(index.Model, index.Path);
        var isFixed = specs.All(s => s.Dims is { } d && d.All(x => x is not null));
        OnnxRuntimeException? refused = null;
        var (accepted, fitting) = (0, 0);
        for (var seed = firstSeed; accepted < count && seed < firstSeed + 2 * count; seed++)
        {
            // Where a run loads the whole model piece by piece, one is tried and the rest follow it.
            Sample? made =
                original.Segments > 1 && accepted > 0 ? SyntheticInputs.Make(index.Model, specs, fitting, seed, index.Path) : null;
            for (var proposal = 0; proposal < (isFixed ? 1 : SyntheticInputs.Proposals) && made is null; proposal++)
            {
                var candidate = SyntheticInputs.Make(index.Model, specs, proposal, seed, index.Path);
                try
                {
                    original.Run([candidate], cancellation);
                    (made, fitting) = (candidate, proposal);
                }
                catch (TimeoutException e)
                {
                    throw CannotRun(index, e);
                }
                catch (OnnxRuntimeException e)
                {
                    refused = e;
                }
            }
            if (made is null && accepted == 0)
                throw CannotRun(index, refused!);
            if (made is null)
                continue;
            accepted++;
            yield return made;
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
