using System.Text.Json;
using System.Text.Json.Serialization;

namespace Serverless.Core.Reports;

/// <summary>The contents of <c>report.json</c>. Names are a contract: fields are added, never renamed.</summary>
public sealed record Report(
    string Status,
    string RunId,
    string Model,
    ReportSize Size,
    ReportParameters Parameters,
    ReportFidelity Fidelity,
    ReportAccuracy? Accuracy,
    ReportLatency? Latency,
    ReportBudget? Budget,
    IReadOnlyList<ReportLayer> Layers,
    int Attempts,
    double ElapsedSeconds,
    long PeakMemoryBytes
)
{
    /// <summary>Layers whose weights and options were those of an earlier run, and were taken from it.</summary>
    public int LayersReused => Layers.Count(l => l.Reused);

    /// <summary>Multiply-accumulates with stored weights, or null in reports that were written before they were counted.</summary>
    public ReportMultiplyAccumulates? MultiplyAccumulates { get; init; }

    /// <summary>What the run spent its time on until the report was written, attempts together.</summary>
    public IReadOnlyList<ReportStage> Stages { get; init; } = [];

    /// <summary>Of <see cref="ElapsedSeconds"/>, those in which the result was compared with the original.</summary>
    public double EvaluateSeconds { get; init; }

    /// <summary>The others.</summary>
    public double CompressSeconds => Math.Max(0, ElapsedSeconds - EvaluateSeconds);

    /// <summary>Store folder of the result whose recipe this run took, or null.</summary>
    public string? Predecessor { get; init; }

    /// <summary>Bytes a second of a plain copy of the original within the store; null for models below 256 MB.</summary>
    public double? CopyBytesPerSecond { get; init; }

    /// <summary>What the techniques were calibrated on, or null when they needed nothing.</summary>
    public ReportCalibration? Calibration { get; init; }

    /// <summary>Figures of the steps, by a field of the step's choosing.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement> Notes { get; init; } = [];

    /// <summary>How the widths of layers were chosen, or null when they were given.</summary>
    public ReportWidths? Widths { get; init; }

    /// <summary>What was coded at its entropy, or null.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ReportEntropyCoding? EntropyCoding { get; init; }

    /// <summary>What loading the models takes; null where they were not loaded whole, as in runs by segments.</summary>
    public ReportLoad? Load { get; init; }

    /// <summary>What whoever uses the result should know first, a sentence each.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>The files beside this report, or null in reports that were written before there was such a list.</summary>
    public IReadOnlyList<ReportFile>? Files { get; init; }
}

/// <summary>Constants that are coded at their entropy, their bytes, and those of the stream with its tables and decoder.</summary>
public sealed record ReportEntropyCoding(int Constants, long BytesBefore, long BytesAfter);

/// <summary>
/// Seconds that ONNX Runtime took to load the models, and by how many bytes of resident memory the process grew meanwhile.
/// </summary>
public sealed record ReportLoad(double BeforeSeconds, double AfterSeconds, long BeforeBytes, long AfterBytes);

/// <summary>A stage of the run and its time.</summary>
public sealed record ReportStage(string Stage, double Seconds)
{
    /// <summary>Bytes of weights read a second, where layers are compressed.</summary>
    public double? BytesPerSecond { get; init; }
}

/// <summary>A published file: its bytes and, for text files, the SHA-256 of what was written.</summary>
public sealed record ReportFile(string Name, long Bytes, string? Sha256);

/// <summary>
/// Samples that techniques saw; source is <c>data</c> or <c>synthetic</c>; held out says that none of them was compared on, as when there
/// is more than one.
/// </summary>
public sealed record ReportCalibration(string Source, int Samples, bool HeldOut);

/// <summary>
/// The least predicted relative error of the outputs at each size, the point taken, and a bound that no choice of its size goes below.
/// </summary>
public sealed record ReportWidths(IReadOnlyList<ReportPoint> Curve, ReportPoint Chosen, double LowerBound, int LayersMeasured)
{
    /// <summary>The choices compared on the model itself, best first.</summary>
    public IReadOnlyList<ReportTried> Tried { get; init; } = [];
}

/// <summary>A choice with no layer below some bits; its error on samples calibrated on.</summary>
public sealed record ReportTried(int LeastBits, double SizeRatio, double PredictedError, double RelativeError);

/// <summary>A size and the error predicted for it.</summary>
public sealed record ReportPoint(double SizeRatio, double RelativeError);

/// <summary>Bytes, external data included; ratio = after / before.</summary>
public sealed record ReportSize(long Before, long After, double Ratio);

/// <summary>
/// Multiply-accumulates with stored weights of a run of one sample: the first of the data, or of made-up size; ratio = after / before.
/// </summary>
public sealed record ReportMultiplyAccumulates(long Before, long After, double Ratio);

/// <summary>Weights of the model; nonzero counts decoded weights.</summary>
public sealed record ReportParameters(long Before, long After, long Nonzero);

/// <summary>
/// Outputs compared over samples; source is <c>data</c>, <c>synthetic</c>, or <c>none</c> where the models could not be run. Figures
/// are those of the worst output, and null where no number was compared.
/// </summary>
public sealed record ReportFidelity(string Source, int Samples, double? Cosine, double? RelativeError, double? Top1Agreement)
{
    /// <summary>Why nothing was compared, or null.</summary>
    public string? NotCompared { get; init; }

    /// <summary>Relative error of the original against itself, run twice on one sample; null where it was not run.</summary>
    public double? RepeatError { get; init; }

    /// <summary>Every output by itself.</summary>
    public IReadOnlyList<ReportOutput> Outputs { get; init; } = [];
}

/// <summary>
/// One output: figures as in <see cref="ReportFidelity"/>, elements compared, samples in which its shape is another, and its elements in
/// both
/// models, all samples together.
/// </summary>
public sealed record ReportOutput(
    string Name,
    string Type,
    double? Cosine,
    double? RelativeError,
    long Compared,
    int ChangedShapes,
    long ElementsBefore,
    long ElementsAfter
);

/// <summary>Share of labelled rows whose largest class is the label.</summary>
public sealed record ReportAccuracy(double Before, double After, long Samples);

/// <summary>
/// Milliseconds of a run, their ratio, and its 90 % confidence interval; conclusive says that the interval lies on one side of 1: the
/// difference is larger than the noise.
/// </summary>
public sealed record ReportLatency(double BeforeMs, double AfterMs, double Ratio, int Segments)
{
    /// <summary>Lower end of the interval.</summary>
    public double RatioLow { get; init; } = Ratio;

    /// <summary>Upper end of the interval.</summary>
    public double RatioHigh { get; init; } = Ratio;

    /// <summary>Whether the difference is larger than the noise.</summary>
    public bool Conclusive { get; init; }
}

/// <summary>
/// The budget and how the result stands to it; measure says what loss is about, which is null where it could not be told.
/// </summary>
public sealed record ReportBudget(double? MaxAccuracyLoss, double? MaxSizeRatio, string Measure, double? Loss, bool Met)
{
    /// <summary>Largest ratio of multiply-accumulates, or null.</summary>
    public double? MaxMacRatio { get; init; }

    /// <summary>Largest ratio of latencies, or null; it is met within 5 %.</summary>
    public double? MaxLatencyRatio { get; init; }
}

/// <summary>A step that did nothing with a layer.</summary>
/// <param name="Step">The step and its method.</param>
/// <param name="Reason">Why.</param>
public sealed record ReportNotApplied(string Step, string Reason)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Step}: {Reason}";
}

/// <summary>What became of one weight. Error is relative (Frobenius); note says why it was left alone.</summary>
public sealed record ReportLayer(
    string Name,
    string? Node,
    string Op,
    long[] Shape,
    IReadOnlyList<string> Steps,
    int Bits,
    double Sparsity,
    int? Rank,
    long BytesBefore,
    long BytesAfter,
    double Error,
    double Seconds,
    string? Form,
    int? Group,
    bool Reused,
    string? Note
)
{
    /// <summary>Why the method asked for was not used on this layer and what was in its place, or null.</summary>
    public string? Fallback { get; init; }

    /// <summary>Whether its codes are stored at their entropy.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool EntropyCoded { get; init; }

    /// <summary>Steps that did nothing with the layer, each with the reason.</summary>
    public IReadOnlyList<ReportNotApplied> NotApplied { get; init; } = [];
}
