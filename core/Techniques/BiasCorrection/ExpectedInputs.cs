using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>
/// What layers get to see, known without data: behind a batch normalization a channel is taken to be normal with mean β and
/// deviation |γ| (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction", section
/// 4.2.1), and what activations make of it is integrated numerically, where the paper has the closed form for Relu.
/// </summary>
/// <param name="facts">Facts of the model.</param>
/// <param name="normalized">Value → its distribution, where a normalization makes it.</param>
internal sealed class ExpectedInputs(GraphFacts facts, IReadOnlyDictionary<string, ChannelDistribution> normalized)
{
    private const int Deepest = 64,
        Points = 385,
        MostChannels = 1 << 20;
    private const double Reach = 6;
    private readonly GraphIndex index = facts.Main.Index;
    private readonly Dictionary<string, ChannelDistribution?> known = new(StringComparer.Ordinal);

    /// <summary>The distribution of a value's channels, or null where it does not follow from normalizations.</summary>
    public ChannelDistribution? Of(string value) => Of(value, 0);

    private ChannelDistribution? Of(string value, int depth)
    {
        if (known.TryGetValue(value, out var found))
            return found;
        return known[value] =
            depth > Deepest
                ? null
                : normalized.GetValueOrDefault(value)
                    ?? (index.Producer(value) is { Domain: "", Input.Count: > 0 } producer ? Made(producer, depth + 1) : null);
    }

    private ChannelDistribution? Made(NodeProto node, int depth)
    {
        switch (node.OpType)
        {
            case "Identity" or "Dropout" or "AveragePool":
            case var _ when OperatorFacts.Of(node) is { Effect: ChannelEffect.Layout, Data: 1 } && KeepsChannels(node):
                return Of(node.Input[0], depth);
            case "GlobalAveragePool":
                return Of(node.Input[0], depth) is { } pooled ? pooled with { Deviation = new double[pooled.Mean.Length] } : null;
            case "Add" when Both(node, depth) is var (a, b):
                return new ChannelDistribution([.. a.Mean.Zip(b.Mean, (x, y) => x + y)], [.. a.Deviation.Zip(b.Deviation, double.Hypot)]);
            // x · g(x): a swish.
            case "Mul" when Gate(node) is var (x, gate) && Of(x, depth) is { } input:
                return Through(input, v => v * gate(v));
            case "Mul" when Both(node, depth) is var (a, b):
                return new ChannelDistribution(
                    [.. a.Mean.Zip(b.Mean, (x, y) => x * y)],
                    [
                        .. a.Mean.Select(
                            (m, c) =>
                                Math.Sqrt(
                                    Square(m * b.Deviation[c])
                                        + Square(b.Mean[c] * a.Deviation[c])
                                        + Square(a.Deviation[c] * b.Deviation[c])
                                )
                        ),
                    ]
                );
            case "Concat" when node.Attribute.FirstOrDefault(a => a.Name == "axis")?.I == 1:
                var parts = node.Input.Select(i => Of(i, depth)).ToList();
                return parts.Contains(null) || parts.Sum(p => (long)p!.Mean.Length) > MostChannels
                    ? null
                    : new ChannelDistribution([.. parts.SelectMany(p => p!.Mean)], [.. parts.SelectMany(p => p!.Deviation)]);
            default:
                return Function(node) is { } f && Of(node.Input[0], depth) is { } before ? Through(before, f) : null;
        }
    }

    private bool KeepsChannels(NodeProto node) =>
        facts.Groups.AreSame(new ValueAxis(facts.Roots[0], node.Input[0], 1), new ValueAxis(facts.Roots[0], node.Output[0], 1));

    private (ChannelDistribution A, ChannelDistribution B)? Both(NodeProto node, int depth) =>
        node.Input.Count == 2 && Of(node.Input[0], depth) is { } a && Of(node.Input[1], depth) is { } b && a.Mean.Length == b.Mean.Length
            ? (a, b)
            : null;

    private (string X, Func<double, double> Gate)? Gate(NodeProto node)
    {
        for (var i = 0; i < 2 && node.Input.Count == 2; i++)
            if (
                index.Producer(node.Input[1 - i]) is { Input.Count: 1 } gate
                && OperatorKinds.IsGate(gate)
                && gate.Input[0] == node.Input[i]
            )
                return (node.Input[i], Function(gate)!);
        return null;
    }

    private Func<double, double>? Function(NodeProto node)
    {
        double Attribute(string name, double otherwise) => node.Attribute.FirstOrDefault(a => a.Name == name)?.F ?? otherwise;
        switch (node.OpType)
        {
            case "Relu":
                return x => Math.Max(0, x);
            case "LeakyRelu":
                return x => x < 0 ? Attribute("alpha", 0.01) * x : x;
            case "Sigmoid":
                return x => 1 / (1 + Math.Exp(-x));
            case "Tanh":
                return Math.Tanh;
            case "HardSigmoid":
                return x => Math.Clamp(Attribute("alpha", 0.2) * x + Attribute("beta", 0.5), 0, 1);
            case "HardSwish":
                return x => x * Math.Clamp(x / 6 + 0.5, 0, 1);
            case "Clip":
                var bounds =
                    node.Input.Count > 1
                        ? (
                            Number(node.Input[1], double.NegativeInfinity),
                            node.Input.Count > 2 ? Number(node.Input[2], double.PositiveInfinity) : double.PositiveInfinity
                        )
                        : (Attribute("min", double.NegativeInfinity), Attribute("max", double.PositiveInfinity));
                return bounds is ({ } low, { } high) ? x => Math.Min(Math.Max(x, low), high) : null;
            default:
                return null;
        }
    }

    private double? Number(string name, double missing) =>
        name.Length == 0 ? missing
        : index.Constant(name)
            is { DataType: (int)TensorProto.Types.DataType.Float, DataLocation: not TensorProto.Types.DataLocation.External } t
        && TensorRef.InlineBytes(t) is { Length: 4 } bytes
            ? MemoryMarshal.Read<float>(bytes.Span)
        : null;

    // Mean and deviation of f(x), by the trapezoid rule over twelve deviations.
    private static ChannelDistribution Through(ChannelDistribution input, Func<double, double> f)
    {
        var (mean, deviation) = (new double[input.Mean.Length], new double[input.Mean.Length]);
        for (var c = 0; c < mean.Length; c++)
        {
            double weights = 0,
                first = 0,
                second = 0;
            for (var i = 0; i < Points; i++)
            {
                var z = Reach * (2.0 * i / (Points - 1) - 1);
                var (weight, y) = (Math.Exp(-z * z / 2), f(input.Mean[c] + z * input.Deviation[c]));
                weights += weight;
                first += weight * y;
                second += weight * y * y;
            }
            mean[c] = first / weights;
            deviation[c] = Math.Sqrt(Math.Max(0, second / weights - mean[c] * mean[c]));
        }
        return new ChannelDistribution(mean, deviation);
    }

    private static double Square(double x) => x * x;
}
