using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques.BiasCorrection;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="CorrectBias"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="Attempt">The attempt.</param>
public sealed record CorrectBiasInput(RunRequest Request, int Attempt);

/// <summary>How many layers' biases were corrected.</summary>
public sealed record BiasesCorrected(int Layers);

/// <summary>What is to be added to biases.</summary>
/// <param name="Layers">A layer's output value → what each of its channels lacks.</param>
/// <param name="Samples">Samples measured on; 0 when it was worked out from the normalizations.</param>
/// <param name="Skipped">Why nothing was corrected, or null.</param>
public sealed record BiasCorrections(IReadOnlyDictionary<string, float[]> Layers, int Samples, string? Skipped);

/// <summary>
/// Bias correction (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction"). With data,
/// empirical (appendix D): layer by layer from the input on (<see cref="StagedRun"/>), the mean of each channel of the layer's output in
/// the compressed
/// model, those before it corrected, is compared with that in the original, and the bias takes up the difference; so it
/// mends what clipping and rounding do to the mean, of weights and activations alike. Without data, analytic (section
/// 4.2): what a layer lacks is its weights' error times its expected input, which follows from the batch normalizations before it.
/// </summary>
public sealed class CorrectBias : Activity<CorrectBiasInput, BiasesCorrected>, IRunsModels
{
    /// <inheritdoc/>
    public override async Task<BiasesCorrected> RunAsync(CorrectBiasInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var corrections = await FindAsync(store, input, cancellation);
        await store.WriteJsonAsync(RunPaths.Biases(request.Work, input.Attempt), corrections, cancellation);
        return new BiasesCorrected(corrections.Layers.Count);
    }

    private static async Task<BiasCorrections> FindAsync(IArtifactStore store, CorrectBiasInput input, CancellationToken cancellation)
    {
        var request = input.Request;
        var options = (await Inspect.RecipeOf(store, request, cancellation)).Find<BiasCorrectionOptions>() ?? new BiasCorrectionOptions();
        var calibration = await store.ReadJsonAsync<CalibrationPlan>(RunPaths.Calibration(request.State), cancellation);
        var original = await ModelIndexer.IndexAsync(
            store,
            $"{RunPaths.CalibrationModel(request.State)}/{ModelWriter.ModelName}",
            cancellation
        );
        if (original.Bytes > ModelRunner.WholeLimit)
            return Skip($"the model is larger than {ModelRunner.WholeLimit >> 20} MB");
        var built = await AssembledGraph.BuildAsync(store, request, input.Attempt, new Dictionary<string, float[]>(), true, cancellation);
        if (built.Biases.Count == 0)
            return Skip("no layer was compressed that takes a bias");
        using var originals = await store.MaterializeAsync(
            original.Folder,
            original.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag),
            cancellation
        );
        if (calibration.Source != Comparison.Data)
        {
            var normalized = (await StateFacts.ReadAsync(store, request, cancellation)).Normalized;
            if (normalized.Count == 0)
                return Skip("the drop has no data, and the model no batch normalizations to tell what layers get to see");
            await using var assembled = await WriteAsync();
            var shifts = DataFreeBiasCorrection.Of(
                original.Model,
                originals.Path,
                built.Model,
                assembled.Folder,
                built.Biases.Keys,
                normalized
            );
            return shifts.Count > 0
                ? new BiasCorrections(shifts, 0, null)
                : Skip("the drop has no data, and no layer follows a batch normalization");
        }
        using var data =
            await CalibrateShard.OpenDataAsync(store, request, original, cancellation)
            ?? throw new InvalidOperationException("The run was calibrated on data, and has none.");
        await using var compressed = await WriteAsync();
        for (var runs = Math.Min(options.Samples, calibration.Runs); ; runs /= 2)
        {
            var wanted = new Dictionary<string, ChannelMeans>(StringComparer.Ordinal);
            var count = await ValueTap.RunAsync(
                originals.Path,
                original,
                built.Biases.Keys.ToHashSet(StringComparer.Ordinal),
                data.Read(0, cancellation).Take(runs),
                (name, values, shape) => Add(wanted, name, values, shape),
                _ => Task.CompletedTask,
                cancellation
            );
            // Fewer samples, where the values between the layers would fill the disk.
            if (
                Measured(built.Model, compressed.Folder, built.Biases, wanted, data.Read(0, cancellation).Take(runs), cancellation) is
                { } found
            )
                return new BiasCorrections(found, count, null);
            if (runs == 1)
                return Skip($"the values between its layers take more than {LiveValues.FileLimit >> 20} MB");
        }

        // With all its weights in files: layer after layer a part of the model runs from them.
        Task<WrittenModel> WriteAsync() =>
            WrittenModel.WriteAsync(
                store,
                built.Model,
                built.Folder,
                built.ETags,
                $"{RunPaths.Attempt(request.Work, input.Attempt)}/bias",
                0,
                cancellation
            );

        static BiasCorrections Skip(string why) => new(new Dictionary<string, float[]>(), 0, why);
    }

    // All samples pass a layer before its bias is shifted, and only then what follows it. Null when the values between layers take too
    // much.
    private static Dictionary<string, float[]>? Measured(
        ModelProto model,
        string folder,
        IReadOnlyDictionary<string, BiasPlace> biases,
        Dictionary<string, ChannelMeans> wanted,
        IEnumerable<Sample> samples,
        CancellationToken cancellation
    )
    {
        var initializers = model.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var before = biases
            .Values.Select(b => b.Values)
            .Where(initializers.ContainsKey)
            .Distinct()
            .ToDictionary(n => n, n => initializers[n].RawData, StringComparer.Ordinal);
        var (found, got) = (
            new Dictionary<string, float[]>(StringComparer.Ordinal),
            new Dictionary<string, ChannelMeans>(StringComparer.Ordinal)
        );
        using var live = new LiveValues();
        try
        {
            StagedRun.Run(
                model,
                folder,
                biases.Keys.Where(wanted.ContainsKey).ToHashSet(StringComparer.Ordinal),
                samples,
                live,
                (name, values, shape) => Add(got, name, values, shape),
                Shift,
                cancellation
            );
            return found;
        }
        catch (LiveLimitException)
        {
            foreach (var (name, bytes) in before)
                initializers[name].RawData = bytes;
            return null;
        }

        void Shift(string value)
        {
            if (!got.Remove(value, out var means) || means.Sums.Length != wanted[value].Sums.Length)
                return;
            var lack = new float[means.Sums.Length];
            for (var c = 0; c < lack.Length; c++)
                lack[c] = (float)(wanted[value].Mean(c) - means.Mean(c));
            if (!lack.All(float.IsFinite))
                return;
            found[value] = lack;
            biases[value].Shift(initializers, lack);
        }
    }

    private static void Add(Dictionary<string, ChannelMeans> means, string name, ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        if (!means.TryGetValue(name, out var mean))
            means[name] = mean = new ChannelMeans(new double[shape.Length > 1 ? (int)shape[1] : 0]);
        mean.Add(values, shape);
    }

    /// <summary>Sums of the channels, the second axis, over samples.</summary>
    private sealed class ChannelMeans(double[] sums)
    {
        private long count;

        public double[] Sums => sums;

        public double Mean(int channel) => sums[channel] / count;

        public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
        {
            if (shape.Length < 2 || shape[1] != sums.Length || values.Length == 0)
                return;
            var inner = values.Length / (int)(shape[0] * shape[1]);
            for (var i = 0; i < values.Length; i += inner)
                sums[i / inner % sums.Length] += System.Numerics.Tensors.TensorPrimitives.Sum(values.Slice(i, inner));
            count += shape[0] * inner;
        }
    }
}
