using System.Diagnostics;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>The outputs of one run, and how long it took.</summary>
/// <param name="Outputs">Value of each model output.</param>
/// <param name="Time">Time in ONNX Runtime, loading excluded.</param>
internal sealed record RunOutputs(IReadOnlyDictionary<string, TensorValue> Outputs, TimeSpan Time);

/// <summary>What loading a model takes: seconds, and by how many bytes of resident memory the process grew meanwhile.</summary>
public sealed record LoadCost(double Seconds, long Bytes);

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

    /// <summary>Models whose constants take more than this while they are folded are run by segments, in bytes.</summary>
    public const long FoldingLimit = 600L << 20;

    private static readonly TimeSpan RunLimit = TimeSpan.FromSeconds(120);
    private readonly string file,
        folder;
    private readonly ModelProto model;
    private readonly IReadOnlyList<Segment>? segments;
    private readonly bool byDefault,
        inRanges;
    private InferenceSession? session;

    private readonly Abreast abreast;

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
        // Random operators draw on from one run to the next.
        abreast = new Abreast(alone: byDefault || IsSeeded);
        if (index.Bytes > wholeLimit || FoldedBytes.Of(model) > FoldingLimit)
        {
            model = seeded ?? model.Clone();
            segments = Segment.Of(model, segmentLimit);
            return;
        }
        if (seeded is not null)
            model = seeded;
        using var growth = new MemoryGrowth();
        var clock = Stopwatch.StartNew();
        session = OpenWhole();
        Load = new LoadCost(clock.Elapsed.TotalSeconds, growth.Bytes);
    }

    /// <summary>Sessions a run takes.</summary>
    public int Segments => segments?.Count ?? 1;

    /// <summary>What loading the model took; null where it is run by segments.</summary>
    public LoadCost? Load { get; }

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
        using var options = Options(byDefault, abreast.Threads);
        if (IsSeeded)
            return Open(model, folder, options);
        if (inRanges && !model.Functions.SelectMany(f => f.Node).Any(ModelWriter.IsExternalConstant))
        {
            var ranges = model.Clone();
            ModelWriter.LiftConstants(ranges);
            return Open(ranges, folder, options);
        }
        var opened = new InferenceSession(file, options);
        NativeHeap.Trim();
        return opened;
    }

    private RunOutputs[] RunWhole(IReadOnlyList<Sample> samples, CancellationToken cancellation)
    {
        var outputs = new RunOutputs[samples.Count];
        if (samples.Count == 0)
            return outputs;
        if (abreast.Measure(() => outputs[0] = RunWhole(samples[0], cancellation)))
        {
            session!.Dispose();
            session = OpenWhole();
        }
        Abreast.Beside(samples.Count - 1, abreast.Degree, i => outputs[i + 1] = RunWhole(samples[i + 1], cancellation), cancellation);
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
            // Times of samples beside each other say nothing of one alone.
            using var part = new PartSession(
                segment,
                () => segment.ToModel(model, functions, n => Input(n, live.Type(n))),
                folder,
                new Abreast(alone: true)
            );
            for (var i = 0; i < samples.Count; i++)
                times[i] += part.Run(segment.Outputs, live, [i], lastUses[s], live.Keep, cancellation)[0];
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
    internal static InferenceSession Open(ModelProto part, string folder, int? threads = null)
    {
        using var options = Options(threads: threads);
        return Open(part, folder, options);
    }

    internal static InferenceSession Open(ModelProto part, string folder, SessionOptions options)
    {
        (part, folder) = LinkedWeights.Follow(part, folder);
        options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder);
        var opened = new InferenceSession(part.ToByteArray(), options);
        NativeHeap.Trim();
        return opened;
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

    internal static SessionOptions Options(bool byDefault = false, int? threads = null)
    {
        var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, EnableCpuMemArena = byDefault };
        if (!byDefault)
            options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        if (threads is { } count)
            options.IntraOpNumThreads = count;
        return ExecutionDevice.With(options);
    }
}
