using System.Runtime.InteropServices;
using Serverless.Core.Forms;
using Serverless.Core.Grids;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Activations;

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
    private readonly GraphScope main = work.Edit.Roots[0];
    private readonly ScopeFacts facts = new GraphFacts(work.Edit.Model, work.Edit.Roots).Main;
    private readonly List<NodeProto> secondReadings = [];

    /// <summary>The value that ends a use: of the Relu or Clip that alone follows it, else its own.</summary>
    public static string Output(WeightUse use)
    {
        var output = use.Node.Output[0];
        return use.Scope.Index.OnlyConsumer(output) is { } next && OperatorKinds.IsBound(next) && next.Input[0] == output
            ? next.Output[0]
            : output;
    }

    // The value of a product that no Relu or Clip follows, behind the Add of its bias: with one, ONNX Runtime makes a float kernel of it.
    private static string? Unbounded(WeightUse use)
    {
        var output = use.Node.Output[0];
        if (use.Scope.Index.Consumers(output).Take(2).ToList() is [{ OpType: "Add", Domain: "", Output: [var sum] }])
            output = sum;
        return use.Scope.Index.Consumers(output).Any(OperatorKinds.IsBound) ? null : use.Node.Output[0];
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
        var own = new HashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        var convolutions = new Dictionary<NodeProto, int>(ReferenceEqualityComparer.Instance);
        var made = new HashSet<string>(StringComparer.Ordinal);
        var products = new HashSet<string>(StringComparer.Ordinal);
        var taken = new HashSet<string>(StringComparer.Ordinal);
        var floats = new Dictionary<string, string>(
            QdqExclusions.Floats([.. layers.Select(l => l.Weight)], main, observed),
            StringComparer.Ordinal
        );
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
                if (!facts.Index.IsOutput(output))
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
        IntegerSpread.Grow(facts, made, taken, own);
        // A product that only float operators take is put out in float by the kernel itself (MatMulIntegerToFloat, QGemm).
        made.RemoveWhere(products.Contains);
        made.UnionWith(main.Nodes.Where(own.Contains).SelectMany(n => n.Input).Where(products.Contains));
        using (edit.Batch())
        {
            // Gates first: what they read is redirected with the other uses of it.
            var values = made.Union(taken)
                .OrderBy(v => facts.Index.Producer(v) is not { } producer || !OperatorKinds.IsGate(producer))
                .ToList();
            foreach (var value in values)
                Quantize(value, made, own, prefix);
        }
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

    // The weight's own name, so that what uses it stays as it is.
    private void Weight(Weight weight, EncodedLayer layer, string shard, string prefix)
    {
        var axis = layer.Shape.RowAxis(weight.Reference.Dims);
        ModelEdit.RemoveDefinition(weight);
        var graph = new ConstantSubgraph(edit, weight);
        var codes = Int8Codes.Add(graph, weight, layer, shard);
        var scales = edit.AddConstant(main, weight.Value + "_s", Form.Tensor(shard, ((AffineGrid)layer.Grid).Scales, layer.Shape.Rows));
        var zeros = edit.Share(main, "int8_zero", ModelEdit.Tensor(DataType.Int8, new byte[layer.Shape.Rows], layer.Shape.Rows));
        graph.Add(prefix + "DequantizeLinear", [codes, scales, zeros], ModelEdit.Attribute("axis", axis));
        graph.Finish();
    }

    // Integer kernels add an int32 bias whose scale is that of the products. False when it cannot be one.
    private async Task<bool> BiasAsync(WeightUse use, CodeScale x, float[] scales, string prefix, CancellationToken cancellation)
    {
        if (use.Node.Input.Count < 3 || use.Node.Input[2].Length == 0)
            return true;
        var name = use.Node.Input[2];
        if (facts.Stored(name) is not { DataType: (int)DataType.Float, Dims.Count: 1 } tensor || tensor.Dims[0] != scales.Length)
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
    private void Quantize(string value, HashSet<string> made, HashSet<NodeProto> own, string prefix)
    {
        var producer = facts.Index.Producer(value);
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
                secondReadings.Add(same);
            }
        }
        var (codes, back) = (edit.FreshName(value + "_q8"), edit.FreshName(value + "_d8"));
        added.AddRange([
            ModelEdit.Node(prefix + "QuantizeLinear", [source, .. Pair(written)], [codes]),
            ModelEdit.Node(prefix + "DequantizeLinear", [codes, .. Pair(found)], [back]),
        ]);
        var consumers = facts.Index.OwnConsumers(value).Where(n => made.Contains(value) || own.Contains(n));
        foreach (var node in made.Contains(value) ? consumers.Concat(secondReadings) : consumers)
            for (var i = 0; i < node.Input.Count; i++)
                if (node.Input[i] == value)
                    node.Input[i] = back;
        ModelEdit.InsertAfter(main, producer, added);
    }

    private string[] Pair(CodeScale s) =>
        [edit.Share(main, "scale", ModelEdit.Tensor([s.Scale])), edit.Share(main, "zero", ModelEdit.Tensor(DataType.Uint8, [s.Zero]))];

    private static float Attribute(NodeProto node, string name, float otherwise) =>
        node.Attribute.FirstOrDefault(a => a.Name == name)?.F ?? otherwise;
}
