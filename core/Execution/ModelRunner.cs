using System.Diagnostics;
using System.Runtime.ExceptionServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>The outputs of one run, and how long it took.</summary>
/// <param name="Outputs">Value of each model output.</param>
/// <param name="Time">Time in ONNX Runtime, loading excluded.</param>
internal sealed record RunOutputs(IReadOnlyDictionary<string, TensorValue> Outputs, TimeSpan Time);

/// <summary>
/// Runs a model in stock ONNX Runtime on the CPU: in one session when its weights are small enough, else segment by
/// segment over all samples, so that no more than one segment's weights are in memory.
/// </summary>
internal sealed class ModelRunner : IDisposable
{
    /// <summary>Weights above this are run by segments, in bytes.</summary>
    public const long WholeLimit = 128L << 20;

    /// <summary>Weights of a segment, in bytes.</summary>
    public const long SegmentLimit = 96L << 20;

    // What runs beside each other may take for their values, in bytes.
    private const long TogetherLimit = 96L << 20;

    private static readonly TimeSpan RunLimit = TimeSpan.FromSeconds(120);
    private readonly string file,
        folder;
    private readonly ModelProto model;
    private readonly IReadOnlyList<Segment>? segments;
    private readonly bool byDefault,
        inRanges;
    private InferenceSession? session;

    // Runs beside each other, each on one thread; 0 while that is not known, 1 for one at a time on all threads.
    private int together;

    /// <summary>Prepares a model.</summary>
    /// <param name="folder">Local folder that holds it.</param>
    /// <param name="index">Its index.</param>
    /// <param name="wholeLimit">Largest model, in bytes, run in one session.</param>
    /// <param name="segmentLimit">Weights of a segment, in bytes.</param>
    /// <param name="byDefault">Run as ONNX Runtime does by default; else with memory and processors spared.</param>
    /// <param name="inRanges">Weights are mapped as ranges of the file, which need not be read as a whole then.</param>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime does not load it.</exception>
    public ModelRunner(
        string folder,
        ModelIndex index,
        long wholeLimit = WholeLimit,
        long segmentLimit = SegmentLimit,
        bool byDefault = false,
        bool inRanges = false
    )
    {
        (this.folder, model, this.byDefault, this.inRanges) = (folder, index.Model, byDefault, inRanges);
        file = Path.Combine(folder, Storage.StorePath.Name(index.Path));
        var seeded = RandomSeeds.Fix(model);
        IsSeeded = seeded is not null;
        if (index.Bytes > wholeLimit)
        {
            model = seeded ?? model.Clone();
            segments = Segment.Of(model, segmentLimit);
            return;
        }
        if (seeded is not null)
            model = seeded;
        // Random operators draw on from one run to the next.
        together = byDefault || IsSeeded || ExecutionDevice.IsCuda ? 1 : 0;
        session = OpenWhole();
    }

    /// <summary>Sessions a run takes.</summary>
    public int Segments => segments?.Count ?? 1;

    /// <summary>Whether the model draws random numbers: the same ones in every session, others in every run.</summary>
    public bool IsSeeded { get; }

    /// <summary>
    /// Runs samples, several at a time where memory allows; by segments, all samples pass one segment before the next is loaded.
    /// </summary>
    /// <exception cref="OnnxRuntimeException">A run failed.</exception>
    /// <exception cref="TimeoutException">A run took longer than two minutes.</exception>
    public IReadOnlyList<RunOutputs> Run(IReadOnlyList<Sample> samples, CancellationToken cancellation) =>
        session is not null ? RunWhole(samples, cancellation) : RunSegments(samples, cancellation);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (session is null)
            return;
        session.Dispose();
        NativeHeap.Trim();
    }

    private InferenceSession OpenWhole()
    {
        using var options = Options(byDefault);
        if (together != 1)
            options.IntraOpNumThreads = 1;
        if (IsSeeded || inRanges)
            return Open(model, folder, options);
        var opened = new InferenceSession(file, options);
        NativeHeap.Trim();
        return opened;
    }

    // Samples beside each other need no threads that wait for each other within each operator.
    private RunOutputs[] RunWhole(IReadOnlyList<Sample> samples, CancellationToken cancellation)
    {
        var outputs = new RunOutputs[samples.Count];
        var begun = 0;
        if (together == 0 && samples.Count > 0)
        {
            using var growth = new MemoryGrowth();
            outputs[begun++] = RunWhole(samples[0], cancellation);
            together = (int)Math.Clamp(TogetherLimit / Math.Max(1, growth.Bytes), 1, Environment.ProcessorCount);
            if (together == 1)
            {
                session!.Dispose();
                session = OpenWhole();
            }
        }
        var degree = new ParallelOptions { MaxDegreeOfParallelism = Math.Max(1, together), CancellationToken = cancellation };
        try
        {
            Parallel.For(begun, samples.Count, degree, i => outputs[i] = RunWhole(samples[i], cancellation));
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
        return outputs;
    }

    private RunOutputs RunWhole(Sample sample, CancellationToken cancellation)
    {
        var names = model.Graph.Output.Select(o => o.Name).Distinct().ToList();
        var inputs = sample.Inputs.Where(i => session!.InputMetadata.ContainsKey(i.Key)).ToDictionary(i => i.Key, i => i.Value.ToOrt());
        try
        {
            var (values, time) = Run(session!, inputs, names, cancellation);
            using (values)
                return new RunOutputs(names.Zip(values).ToDictionary(p => p.First, p => OutputValue.Of(p.Second)), time);
        }
        finally
        {
            foreach (var v in inputs.Values)
                v.Dispose();
        }
    }

    private List<RunOutputs> RunSegments(IReadOnlyList<Sample> samples, CancellationToken cancellation)
    {
        var times = new TimeSpan[samples.Count];
        var wanted = model.Graph.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        var (lastUses, functions) = (Segment.LastUses(segments!, wanted), new FunctionCalls(model));
        var taken = segments!.SelectMany(s => s.Inputs).Concat(wanted).ToHashSet(StringComparer.Ordinal);
        using var live = new LiveValues();
        for (var i = 0; i < samples.Count; i++)
            foreach (var (name, value) in samples[i].Inputs)
                if (taken.Contains(name))
                    live.Keep(i, name, value.ToOrt());
        for (var s = 0; s < segments!.Count; s++)
        {
            var segment = segments[s];
            using var part = Open(segment.ToModel(model, functions, n => Input(n, live.Type(n))), folder);
            for (var i = 0; i < samples.Count; i++)
                times[i] += RunPart(
                    part,
                    segment,
                    segment.Outputs,
                    live,
                    i,
                    lastUses[s],
                    (name, value) => live.Keep(i, name, value),
                    cancellation
                );
        }
        return
        [
            .. samples.Select((_, i) => new RunOutputs(wanted.ToDictionary(n => n, n => Taken(live.Lend(i, n, last: true))), times[i])),
        ];

        static TensorValue Taken(Lent lent)
        {
            using (lent.Value)
                return OutputValue.Of(lent.Value);
        }
    }

    /// <summary>An input of a part whose dimensions are left open.</summary>
    internal static ValueInfoProto Input(string name, int type) =>
        new()
        {
            Name = name,
            Type = new TypeProto { TensorType = new() { ElemType = type } },
        };

    /// <summary>Loads a part of a model whose weights are files of a folder.</summary>
    internal static InferenceSession Open(ModelProto part, string folder)
    {
        using var options = Options();
        return Open(part, folder, options);
    }

    private static InferenceSession Open(ModelProto part, string folder, SessionOptions options)
    {
        options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder);
        var opened = new InferenceSession(part.ToByteArray(), options);
        NativeHeap.Trim();
        return opened;
    }

    /// <summary>Runs a part of a model on the live values of a sample.</summary>
    /// <param name="session">The part, loaded.</param>
    /// <param name="part">The part.</param>
    /// <param name="outputs">Values to compute.</param>
    /// <param name="live">Where its inputs are.</param>
    /// <param name="sample">The sample.</param>
    /// <param name="last">Inputs that nothing takes afterwards.</param>
    /// <param name="take">Takes each output, and owns it.</param>
    /// <param name="cancellation">Cancels the run.</param>
    /// <returns>Time in ONNX Runtime.</returns>
    internal static TimeSpan RunPart(
        InferenceSession session,
        Segment part,
        IReadOnlyCollection<string> outputs,
        LiveValues live,
        int sample,
        IReadOnlySet<string> last,
        Action<string, OrtValue> take,
        CancellationToken cancellation
    )
    {
        var lent = new Dictionary<string, Lent>(StringComparer.Ordinal);
        try
        {
            foreach (var name in part.Inputs)
                lent[name] = live.Lend(sample, name, last.Contains(name));
            var (values, time) = Run(session, lent.ToDictionary(l => l.Key, l => l.Value.Value), outputs, cancellation);
            foreach (var (name, value) in outputs.Zip(values))
                take(name, value);
            return time;
        }
        finally
        {
            foreach (var l in lent.Values)
                if (l.Own)
                    l.Value.Dispose();
        }
    }

    internal static (IDisposableReadOnlyCollection<OrtValue> Values, TimeSpan Time) Run(
        InferenceSession session,
        IReadOnlyDictionary<string, OrtValue> inputs,
        IReadOnlyCollection<string> outputs,
        CancellationToken cancellation
    )
    {
        using var options = new RunOptions();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(RunLimit);
        using var stop = limit.Token.Register(() => options.Terminate = true);
        var clock = Stopwatch.StartNew();
        try
        {
            return (session.Run(options, inputs.Keys.ToList(), inputs.Values.ToList(), outputs), clock.Elapsed);
        }
        catch (OnnxRuntimeException) when (limit.IsCancellationRequested)
        {
            cancellation.ThrowIfCancellationRequested();
            throw new TimeoutException($"One run of the model took more than {RunLimit.TotalSeconds} s.");
        }
    }

    internal static SessionOptions Options(bool byDefault = false)
    {
        var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, EnableCpuMemArena = byDefault };
        if (!byDefault)
            options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        return ExecutionDevice.With(options);
    }
}
