using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Inputs made from a model's own input types and shapes, for models that come without data. Floats are
/// pictures of strokes and white noise in turn where the input is an image, a voiced sound where it is a sequence of any length, zero
/// where it is
/// a recurrent state, else normal with standard deviation 0.5; integers that index an embedding stay below its rows, integers compared
/// with constants take
/// those constants in turn, masks are ones. Each fourth sample is louder, twelvefold a sound and fourfold other floats but for pictures.
/// The same seed gives the same inputs.
/// </summary>
public static class SyntheticInputs
{
    private const long LargestInput = 16 << 20;

    // A quiet voice becomes one at full scale; a feature of deviation 0.5 one of deviation 2.
    private const double LoudWave = 12,
        LoudFeature = 4;
    private const string Loud = "loud";

    /// <summary>Sizes of dynamic axes: of a rank-2 float input, of a rank-3 one, of images, of tokens.</summary>
    private sealed record Proposal(long Samples, long Frames, long Pixels, long Tokens);

    // In the order tried: audio chunks, feature frames, multiples of 32 pixels, token counts first.
    private static readonly Proposal[] Sizes =
    [
        new(512, 64, 160, 16),
        new(64, 80, 64, 32),
        new(256, 100, 224, 8),
        new(16, 32, 128, 64),
        new(576, 24, 256, 128),
        new(1024, 16, 320, 4),
        new(1, 1, 32, 1),
        new(16000, 128, 640, 256),
        new(784, 400, 28, 77),
        new(128, 256, 512, 512),
    ];

    // Recurrent states and caches begin at zero, as callers give them.
    private static readonly string[] StateNames = ["h", "c", "h0", "c0", "state", "hidden", "cell", "cache", "past", "init"];

    /// <summary>Number of shapes that <see cref="Make"/> can propose.</summary>
    public static int Proposals => Sizes.Length;

    /// <summary>
    /// How many times larger a value may get from quiet to loud samples for one range to serve both. A sound is really as quiet and as loud
    /// as that, so what grows with it is too much; of features what grows as their square; of pictures and tokens nothing.
    /// </summary>
    public static double MostGrowth(IReadOnlyList<InputSpec> specs)
    {
        if (specs.Any(IsWave))
            return LoudWave / 2;
        return specs.Any(s => Loudness(s) > 1) ? LoudFeature * LoudFeature : double.PositiveInfinity;
    }

    /// <summary>What is known of the inputs that are made up first, by name.</summary>
    /// <param name="model">The model, for how inputs are used.</param>
    /// <param name="specs">Its inputs.</param>
    public static IReadOnlyDictionary<string, KnownInput> Known(ModelProto model, IReadOnlyList<InputSpec> specs)
    {
        var sizes = new Dictionary<string, long>(StringComparer.Ordinal);
        return specs.ToDictionary(
            s => s.Name,
            s =>
            {
                var shape = Shape(s, 0, sizes);
                return KnownInput.IsDecisive(shape) && ElementTypes.IsWhole(s.Type)
                    ? Fill(model, s, shape, (int)TensorRef.Count(shape)!.Value, 0).Known
                    : new KnownInput(shape);
            },
            StringComparer.Ordinal
        );
    }

    /// <summary>Makes the inputs of one run.</summary>
    /// <param name="model">The model, for how inputs are used.</param>
    /// <param name="specs">Its inputs.</param>
    /// <param name="proposal">Which sizes to take for dynamic axes.</param>
    /// <param name="seed">Number of the sample.</param>
    /// <param name="path">How to name the model in an error.</param>
    /// <exception cref="BadInputException">An input cannot be made up.</exception>
    public static Sample Make(ModelProto model, IReadOnlyList<InputSpec> specs, int proposal, int seed, string path)
    {
        var sizes = new Dictionary<string, long>(StringComparer.Ordinal);
        var values = new Dictionary<string, TensorValue>(StringComparer.Ordinal);
        foreach (var spec in specs)
        {
            if (ElementTypes.Size(spec.Type) == 0)
                throw new BadInputException(
                    $"{path}: the input '{spec.Name}' takes {spec.Type}, which cannot be made up; drop a data.npz beside the model."
                );
            var shape = Shape(spec, proposal, sizes);
            var count = TensorRef.Count(shape);
            if (count is null or > LargestInput)
                throw new BadInputException(
                    $"{path}: the input '{spec.Name}' takes [{string.Join(',', shape)}], too large to make up; drop a "
                        + "data.npz beside the model."
                );
            values[spec.Name] = Fill(model, spec, shape, (int)count, seed);
        }
        return new Sample(values, null) { Group = IsLoud(seed) && specs.Any(s => Loudness(s) > 1) ? Loud : "" };
    }

    private static long[] Shape(InputSpec spec, int proposal, Dictionary<string, long> sizes)
    {
        var rank = spec.Dims?.Length ?? 1;
        var shape = new long[rank];
        var dynamic =
            spec.Type is TensorElementType.Int64 or TensorElementType.Int32 ? Sizes[proposal].Tokens
            : rank >= 4 ? Sizes[proposal].Pixels
            : rank == 3 ? Sizes[proposal].Frames
            : Sizes[proposal].Samples;
        var batchSeen = false;
        for (var i = 0; i < rank; i++)
        {
            var symbol = i < spec.Symbols.Length ? spec.Symbols[i] : "";
            // The first dynamic axis is the batch when it leads, or follows a fixed count of layers as in [2, batch, 128].
            var batch = !batchSeen && rank > 1 && (i == 0 || (i == 1 && rank == 3 && spec.Dims![0] is not null));
            if (spec.Dims?[i] is { } known)
                shape[i] = known;
            else if (batch || symbol.Contains("batch", StringComparison.OrdinalIgnoreCase))
                (shape[i], batchSeen) = (1, true);
            else if (symbol.Length == 0)
                shape[i] = dynamic;
            else if (!sizes.TryGetValue(symbol, out shape[i]))
                sizes[symbol] = shape[i] = dynamic;
        }
        return shape;
    }

    // What an image holds is fixed by whoever made the model; how loud a sound is, or how large a feature, is not known.
    private static double Loudness(InputSpec spec)
    {
        if (!ElementTypes.IsFloat(spec.Type) || spec.Dims?.Length == 4 || IsState(spec))
            return 1;
        return IsWave(spec) ? LoudWave : LoudFeature;
    }

    private static bool IsWave(InputSpec spec) => spec.Dims is { Length: 2 } d && d[1] is null;

    private static bool IsLoud(int seed) => seed % 4 == 3;

    private static bool IsState(InputSpec spec)
    {
        var name = spec.Name.ToLowerInvariant();
        return spec.Dims?.Length >= 3 && StateNames.Any(n => name == n || (n.Length > 2 && name.StartsWith(n, StringComparison.Ordinal)));
    }

    private static TensorValue Fill(ModelProto model, InputSpec spec, long[] shape, int count, int seed)
    {
        var bytes = new byte[count * ElementTypes.Size(spec.Type)];
        var random = new Random(HashCode(spec.Name) ^ (seed * 7919));
        if (seed % 2 == 0 && spec.Type == TensorElementType.Float && shape is [1, 1 or 3 or 4, >= 8, >= 8])
        {
            var picture = SyntheticImage.Draw(random, (int)shape[1], (int)shape[2], (int)shape[3]);
            return new TensorValue(spec.Type, shape, System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(picture).ToArray());
        }
        var constants = ComparedWith(model, spec.Name);
        var rows = EmbeddingRows(model, spec.Name);
        var name = spec.Name.ToLowerInvariant();
        var state = IsState(spec);
        var loudness = IsLoud(seed) ? Loudness(spec) : 1;
        var wave = IsWave(spec);
        var pitch = 0.005 + 0.025 * random.NextDouble();
        for (var i = 0; i < count; i++)
        {
            double value;
            if (ElementTypes.IsFloat(spec.Type))
                value = state ? 0 : loudness * (wave ? Wave(random, i, pitch) : 0.5 * NormalNumbers.Next(random));
            else if (constants.Count > 0)
                value = constants[seed % constants.Count];
            else if (rows > 0)
                value = random.NextInt64(rows);
            else if (name.Contains("position", StringComparison.Ordinal))
                value = i % shape[^1];
            else
                value = name.Contains("type", StringComparison.Ordinal) ? 0 : 1;
            ElementTypes.Set(bytes, spec.Type, i, value);
        }
        return new TensorValue(spec.Type, shape, bytes);
    }

    private static List<long> ComparedWith(ModelProto model, string input)
    {
        var found = new List<long>();
        foreach (var scope in GraphScope.Of(model)[0].All())
        {
            foreach (var node in scope.Nodes.Where(n => n.OpType == "Equal" && n.Input.Contains(input)))
            {
                var other = node.Input.FirstOrDefault(i => i != input);
                var tensor =
                    scope.Graph!.Initializer.FirstOrDefault(t => t.Name == other)
                    ?? scope.Nodes.FirstOrDefault(n => n.OpType == "Constant" && n.Output[0] == other)?.Attribute.FirstOrDefault()?.T;
                if (tensor is null || tensor.DataLocation == TensorProto.Types.DataLocation.External)
                    continue;
                var bytes = TensorRef.InlineBytes(tensor);
                if (bytes.Length == 8)
                    found.Add(BitConverter.ToInt64(bytes.Span));
            }
        }
        // Half of what is compared with is also the other branch.
        if (found.Count > 0)
            found.Add(found[0] / 2);
        return found;
    }

    private static long EmbeddingRows(ModelProto model, string input)
    {
        long rows = 0;
        var dims = model.Graph.Initializer.ToDictionary(t => t.Name, t => t.Dims, StringComparer.Ordinal);
        var names = new HashSet<string>(StringComparer.Ordinal) { input };
        foreach (var node in model.Graph.Node)
        {
            if (
                (node.OpType == "Cast" || OperatorKinds.IsRearrangement(node))
                && node.Input.Count > 0
                && names.Contains(node.Input[0])
                && node.Output.Count > 0
            )
                names.Add(node.Output[0]);
            if (
                node.OpType is "Gather" or "GatherBlockQuantized"
                && node.Input.Count > 1
                && names.Contains(node.Input[1])
                && dims.TryGetValue(node.Input[0], out var d)
                && d.Count > 1
            )
                rows = rows == 0 ? d[0] : Math.Min(rows, d[0]);
        }
        return rows;
    }

    // A voiced sound: harmonics of one pitch over faint noise, as a quiet voice. White noise at full scale drives
    // recurrent audio models into saturation, where signs flip at random.
    private static double Wave(Random random, int at, double pitch)
    {
        var value = 0.01 * NormalNumbers.Next(random);
        for (var h = 1; h <= 5; h++)
            value += 0.02 / h * Math.Sin(2 * Math.PI * h * pitch * at);
        return value;
    }

    private static int HashCode(string text)
    {
        unchecked
        {
            var hash = 17;
            foreach (var c in text)
                hash = hash * 31 + c;
            return hash;
        }
    }
}
