using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques;

/// <summary>
/// The model as a graph step finds it, and samples to run it on. They are those that techniques may see: the result is compared with the
/// original on others.
/// </summary>
/// <param name="Model">The model; every weight of 128 bytes or more lies in a file.</param>
/// <param name="Samples">Samples there are: as many as the step asked for, at most half of the data; 0 where the model takes none.</param>
/// <param name="IsData">Whether they are real data; else they are synthetic.</param>
public sealed record ModelTrials(ModelIndex Model, int Samples, bool IsData)
{
    /// <summary>Puts the files of the model into a local folder, which stays until the step ends.</summary>
    public required Func<CancellationToken, Task<string>> FolderAsync { get; init; }

    /// <summary>The first so many samples; data is read as it is enumerated.</summary>
    public required Func<int, CancellationToken, Task<IEnumerable<Sample>>> ReadAsync { get; init; }

    /// <summary>
    /// Runs another model of the same inputs and outputs, on so many samples at most, and compares it with the model as the step finds it.
    /// </summary>
    public required Func<ModelProto, int, CancellationToken, Task<OutputChange?>> ChangeAsync { get; init; }

    /// <summary>Times another model of the same inputs against the original, run by run, on the first sample.</summary>
    public required Func<ModelProto, CancellationToken, Task<ModelTime?>> TimeAsync { get; init; }

    /// <summary>The table of operators of this machine; what is measured for it is kept for later runs.</summary>
    public required Func<CancellationToken, Task<OperatorTimes>> TimesAsync { get; init; }
}

/// <summary>The time of a run of a changed model.</summary>
/// <param name="Milliseconds">Of the changed model.</param>
/// <param name="Ratio">Over that of the original, from pairs of runs.</param>
public sealed record ModelTime(double Milliseconds, double Ratio);

/// <summary>What a change of a model makes of its outputs; of several outputs the worst counts.</summary>
/// <param name="RelativeError">‖a − b‖ / ‖a‖ over all samples.</param>
/// <param name="Cosine">Σab / √(Σa²·Σb²); null where no number was compared.</param>
/// <param name="Lost">
/// What a budget of accuracy is about: accuracy with labels, else decisions that differ on data, else 1 − cosine; null where that is not
/// known.
/// </param>
public sealed record OutputChange(double RelativeError, double? Cosine, double? Lost)
{
    /// <summary>
    /// Relative error of the scores in front of the Softmax or Sigmoid that makes an output, of the outputs themselves where there is none;
    /// null where the changed model has no such value.
    /// </summary>
    public double? Scores { get; init; }
}
