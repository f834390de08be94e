using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Activations;

/// <summary>A scale and zero point of uint8 codes.</summary>
/// <param name="Scale">Step.</param>
/// <param name="Zero">The code of zero.</param>
public readonly record struct CodeScale(float Scale, byte Zero)
{
    /// <summary>Of a range that holds zero: 255 steps; 1 when the range is empty.</summary>
    public static CodeScale Of(float min, float max)
    {
        var scale = max / 255 - min / 255;
        return float.IsNormal(scale)
            ? new CodeScale(scale, (byte)Math.Clamp(Math.Round(-(double)min / scale, MidpointRounding.ToEven), 0, 255))
            : new CodeScale(1, 0);
    }
}

/// <summary>
/// Puts layers between QuantizeLinear and DequantizeLinear so that ONNX Runtime's graph transformers make integer kernels
/// of them (ONNX Runtime, "Quantize ONNX models", QDQ format): the input, the weight and the bias dequantized, the
/// output quantized behind a Relu or Clip that alone follows, or left in float where a product of matrices goes to float
/// operators alone. Models below opset 13, whose operator has no axis, use
/// the nodes of the domain com.microsoft, which the transformers take alike.
/// </summary>
/// <param name="work">The model; layers whose plan says how activations are rounded are taken.</param>
/// <param name="observed">What is known of a value, or null when no sample reached it.</param>
internal sealed class QdqGraph(LoweringWork work, Func<string, ObservedValue?> observed) : Lowering
{
    private const long AxisSince = 13;
    private readonly ModelEdit edit = work.Edit;
    private readonly List<CodedLayer> layers = [];
    private readonly HashSet<string> gated = new(StringComparer.Ordinal);
    private readonly GraphScope main = work.Edit.Roots[0];
    private readonly Dictionary<string, TensorProto> constants = new(StringComparer.Ordinal);

    /// <summary>The value that ends a use: of the Relu or Clip that alone follows it, else its own.</summary>
    public static string Output(WeightUse use)
    {
        var output = use.Node.Output[0];
        var next = use.Scope.Index.Consumers(output).Take(2).ToList();
        var alone = next.Count == 1 && !use.Scope.Index.IsOutput(output);
        return alone && next[0] is { OpType: "Relu" or "Clip", Domain: "" } && next[0].Input[0] == output ? next[0].Output[0] : output;
    }

    // The value of a product that no Relu or Clip follows, behind the Add of its bias: with one, ONNX Runtime makes a float kernel of it.
    private static string? Unbounded(WeightUse use)
    {
        var output = use.Node.Output[0];
        if (use.Scope.Index.Consumers(output).Take(2).ToList() is [{ OpType: "Add", Domain: "", Output: [var sum] }])
            output = sum;
        return use.Scope.Index.Consumers(output).Any(n => n is { OpType: "Relu" or "Clip", Domain: "" }) ? null : use.Node.Output[0];
    }

    /// <summary>
    /// Whether a use sees one vector a sample, behind a global pool, as the gates of squeeze-and-excitation do: so little work
    /// that rounding its input and output costs more than it saves.
    /// </summary>
    public static bool SeesOneVector(WeightUse use) => IsOneVector(use.Scope, use.Node.Input[0]);

    private static bool IsOneVector(GraphScope scope, string name)
    {
        for (var steps = 0; steps < 8; steps++)
        {
            var producer = scope.Index.Producer(name);
            if (producer is null)
                return false;
            if (producer.OpType is "GlobalAveragePool" or "GlobalMaxPool")
                return true;
            if (producer.OpType is not ("Conv" or "Relu" or "HardSigmoid" or "Sigmoid" or "Clip") || producer.Input.Count == 0)
                return false;
            name = producer.Input[0];
        }
        return false;
    }

    /// <inheritdoc/>
    public override bool Take(CodedLayer layer)
    {
        if (layer.Plan.Activation is null)
            return false;
        layers.Add(layer);
        return true;
    }

    /// <summary>Changes the graph for the layers taken; those that stay in float keep their weights in 8 bits.</summary>
    public override async Task FinishAsync(CancellationToken cancellation)
    {
        if (layers.Count == 0)
            return;
        OpsetRaise.To11(edit);
        var microsoft = main.Opset < AxisSince;
        if (microsoft)
            edit.Import(Form.Microsoft, 1);
        var prefix = microsoft ? Form.Microsoft + ":" : "";
        var outputs = main.Graph!.Output.Select(o => o.Name).ToHashSet(StringComparer.Ordinal);
        var own = new HashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        var convolutions = new Dictionary<NodeProto, int>(ReferenceEqualityComparer.Instance);
        var made = new HashSet<string>(StringComparer.Ordinal);
        var products = new HashSet<string>(StringComparer.Ordinal);
        var taken = new HashSet<string>(StringComparer.Ordinal);
        var floats = new Dictionary<string, string>(
            QdqExclusions.Floats([.. layers.Select(l => l.Weight)], main, observed),
            StringComparer.Ordinal
        );
        foreach (var t in main.Constants)
            constants.TryAdd(t.Name, t);
        using var weights = edit.Batch(layers.Select(l => ModelEdit.Outermost(l.Weight.Scope)).Distinct());
        foreach (var (weight, layer, shard, _, _) in layers)
        {
            cancellation.ThrowIfCancellationRequested();
            var scales = MemoryMarshal
                .Cast<byte, float>(await work.ReadShardAsync(shard, ((AffineGrid)layer.Grid).Scales.Range, cancellation))
                .ToArray();
            var integers = 0;
            foreach (var use in floats.ContainsKey(weight.Name) ? [] : weight.Uses)
            {
                var (input, output) = (use.Node.Input[0], Output(use));
                if (Scale(input) is not { } x || Scale(output) is null || !await BiasAsync(use, x, scales, prefix, cancellation))
                    continue;
                integers++;
                own.Add(use.Node);
                if (use.Op == "Conv" && weight.Reference.Dims.Length == 4)
                    convolutions[use.Node] = (int)weight.Reference.Dims[0];
                taken.Add(input);
                if (!outputs.Contains(output))
                    made.Add(output);
                if (use.Op != "Conv" && made.Contains(output) && output == Unbounded(use))
                    products.Add(output);
            }
            if (integers > 0)
                Weight(weight, layer, shard, prefix);
            else
            {
                floats.TryAdd(weight.Name, "its bias is not a constant that 32 bits hold");
                Form.Apply(edit, weight, layer, shard);
            }
        }
        weights.Dispose();
        Spread(made, taken, own, outputs);
        // A product that only float operators take is put out in float by the kernel itself (MatMulIntegerToFloat, QGemm).
        made.RemoveWhere(products.Contains);
        made.UnionWith(main.Nodes.Where(own.Contains).SelectMany(n => n.Input).Where(products.Contains));
        // Gates first: what they read is redirected with the other uses of it.
        var (producers, consumers) = (
            new Dictionary<string, NodeProto>(StringComparer.Ordinal),
            new Dictionary<string, List<NodeProto>>(StringComparer.Ordinal)
        );
        foreach (var node in main.Nodes)
        {
            foreach (var o in node.Output)
                producers.TryAdd(o, node);
            foreach (var i in node.Input.Distinct())
                Use(consumers, i, node);
        }
        using (edit.Batch())
            foreach (var value in made.Union(taken).OrderBy(v => !gated.Contains(v)).ToList())
                Quantize(value, made, own, prefix, producers, consumers);
        SqueezeExciteGemm.Apply(edit);
        new DepthwisePadding(edit).Apply(convolutions);
        // Biases in float; with fresh scopes, since other layers' edits are known to theirs alone.
        new ModelEdit(edit.Model).DropDead(cancellation);
        foreach (var (name, why) in floats)
            work.Notes[name] = new LayerNote(FormName.Folded, $"weights only: {why}");
        if (work.Synthetic && floats.Count < layers.Count)
            work.Warnings.Add("Ranges of activations come from synthetic inputs: drop a data.npz with real ones.");
    }

    private CodeScale? Scale(string value) => observed(value)?.Scale;

    // What an integer kernel takes and an operator with an integer kernel of its own makes of such values is made by that.
    private void Spread(HashSet<string> made, HashSet<string> taken, HashSet<NodeProto> own, HashSet<string> outputs)
    {
        var initializers = main.Graph!.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        // In topological order two rounds are enough: values follow from values before them.
        var order = GraphCheck.TopologicalOrder(main.Nodes)!.Select(i => main.Nodes[i]).ToList();
        gated.UnionWith(main.Nodes.Where(n => n is { OpType: "HardSigmoid" or "Sigmoid", Domain: "" }).Select(n => n.Output[0]));
        for (var grown = true; grown; )
        {
            grown = false;
            foreach (var node in order.Where(n => OperatorFacts.HasIntegerKernel(n) && n.Output.Count == 1))
            {
                var value = node.Output[0];
                if (made.Contains(value) || !taken.Contains(value) || outputs.Contains(value))
                    continue;
                if (node.OpType is "Add" or "Mul" && node.Input.Any(initializers.Contains))
                    continue;
                // A gate between 0 and 1 needs no observation to be rounded.
                var gates =
                    node.OpType == "Mul"
                        ? node.Input.Where(i => gated.Contains(i) && !outputs.Contains(i) && !IsOneVector(main, i)).ToList()
                        : [];
                var sources = node.Input.Where(i => !initializers.Contains(i) && !gates.Contains(i)).ToList();
                // A sum takes what was rounded for an integer kernel anyway.
                if (!sources.All(i => made.Contains(i) || node.OpType == "Add" && taken.Contains(i)) || !sources.Any(made.Contains))
                    continue;
                own.Add(node);
                made.UnionWith(gates);
                made.Add(value);
                grown = true;
            }
        }
    }

    // The weight's own name, so that what uses it stays as it is.
    private void Weight(Weight weight, EncodedLayer layer, string shard, string prefix)
    {
        var axis = layer.Shape.RowAxis(weight.Reference.Dims);
        ModelEdit.RemoveDefinition(weight);
        var codes = edit.AddConstant(main, weight.Value + "_q", Form.Tensor(shard, layer.Codes, DataType.Int8, weight.Reference.Dims));
        var scales = edit.AddConstant(main, weight.Value + "_s", Form.Tensor(shard, ((AffineGrid)layer.Grid).Scales, layer.Shape.Rows));
        var zeros = edit.Share(main, "int8_zero", ModelEdit.Tensor(DataType.Int8, new byte[layer.Shape.Rows], layer.Shape.Rows));
        ModelEdit.InsertFirst(
            main,
            [ModelEdit.Node(prefix + "DequantizeLinear", [codes, scales, zeros], [weight.Value], ModelEdit.Attribute("axis", axis))]
        );
    }

    // Integer kernels add an int32 bias whose scale is that of the products. False when it cannot be one.
    private async Task<bool> BiasAsync(WeightUse use, CodeScale x, float[] scales, string prefix, CancellationToken cancellation)
    {
        if (use.Node.Input.Count < 3 || use.Node.Input[2].Length == 0)
            return true;
        var name = use.Node.Input[2];
        if (
            constants.GetValueOrDefault(name) is not { DataType: (int)DataType.Float, Dims.Count: 1 } tensor
            || tensor.Dims[0] != scales.Length
        )
            return false;
        var floats = MemoryMarshal.Cast<byte, float>((await work.ReadAsync(tensor, cancellation)).Span).ToArray();
        var (codes, steps) = (new int[floats.Length], new float[floats.Length]);
        for (var c = 0; c < floats.Length; c++)
        {
            steps[c] = x.Scale * scales[c];
            var q = Math.Round((double)floats[c] / steps[c], MidpointRounding.ToEven);
            if (!(Math.Abs(q) < int.MaxValue / 2))
                return false;
            codes[c] = (int)q;
        }
        var quantized = edit.AddConstant(
            main,
            name + "_q",
            ModelEdit.Tensor(DataType.Int32, MemoryMarshal.AsBytes<int>(codes), floats.Length)
        );
        var scale = edit.AddConstant(main, name + "_s", ModelEdit.Tensor(steps, floats.Length));
        var zeros = edit.Share(main, "int32_zero", ModelEdit.Tensor(DataType.Int32, new byte[floats.Length * 4], floats.Length));
        work.Biases[name] = new BiasPlace(quantized, scale);
        use.Node.Input[2] = edit.FreshName(name + "_d");
        ModelEdit.InsertFirst(
            main,
            [ModelEdit.Node(prefix + "DequantizeLinear", [quantized, scale, zeros], [use.Node.Input[2]], ModelEdit.Attribute("axis", 0L))]
        );
        return true;
    }

    // All that use a value made by an integer kernel take it dequantized; of a value made otherwise only those kernels.
    private void Quantize(
        string value,
        HashSet<string> made,
        HashSet<NodeProto> own,
        string prefix,
        Dictionary<string, NodeProto> producers,
        Dictionary<string, List<NodeProto>> consumers
    )
    {
        var producer = producers.GetValueOrDefault(value);
        var added = new List<NodeProto>(3);
        var found = Scale(value) ?? CodeScale.Of(0, 1);
        var (source, written) = (value, found);
        // A hard sigmoid is a straight line with its ends cut off, which is what rounding to codes does: the codes of its input
        // under another scale are those of its output.
        if (producer is { OpType: "HardSigmoid" } gate && Scale(value) is null && made.Contains(gate.Input[0]))
        {
            var (alpha, beta) = (Attribute(gate, "alpha", 0.2f), Attribute(gate, "beta", 0.5f));
            if (alpha > 0 && beta is >= 0 and <= 1)
            {
                (source, written) = (edit.FreshName(value + "_x"), new CodeScale(1 / (255 * alpha), (byte)Math.Round(255 * beta)));
                var same = ModelEdit.Node("LeakyRelu", [gate.Input[0]], [source], ModelEdit.Attribute("alpha", 1f));
                added.Add(same);
                Use(consumers, gate.Input[0], same);
            }
        }
        var (codes, back) = (edit.FreshName(value + "_q8"), edit.FreshName(value + "_d8"));
        added.AddRange([
            ModelEdit.Node(prefix + "QuantizeLinear", [source, .. Pair(written)], [codes]),
            ModelEdit.Node(prefix + "DequantizeLinear", [codes, .. Pair(found)], [back]),
        ]);
        foreach (var node in (consumers.GetValueOrDefault(value) ?? []).Where(n => made.Contains(value) || own.Contains(n)))
            for (var i = 0; i < node.Input.Count; i++)
                if (node.Input[i] == value)
                    node.Input[i] = back;
        ModelEdit.InsertAfter(main, producer, added);
    }

    private static void Use(Dictionary<string, List<NodeProto>> consumers, string value, NodeProto node)
    {
        if (!consumers.TryGetValue(value, out var list))
            consumers[value] = list = [];
        list.Add(node);
    }

    private string[] Pair(CodeScale s) =>
        [edit.Share(main, "scale", ModelEdit.Tensor([s.Scale])), edit.Share(main, "zero", ModelEdit.Tensor(DataType.Uint8, [s.Zero]))];

    private static float Attribute(NodeProto node, string name, float otherwise) =>
        node.Attribute.FirstOrDefault(a => a.Name == name)?.F ?? otherwise;
}
