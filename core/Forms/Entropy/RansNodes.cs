using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// The nodes in the main graph that decode a stream to the bytes of constants. ONNX Runtime folds all of them to the constants themselves
/// while it loads the model; with its optimizations off they run each time.
/// </summary>
internal sealed class RansNodes
{
    /// <summary>The oldest operator set that has the nodes: CumSum.</summary>
    public const long OldestOpset = 11;

    private const long SplitWithInputs = 13;
    private readonly ModelEdit edit;
    private readonly List<NodeProto> nodes = [];

    private RansNodes(ModelEdit edit) => this.edit = edit;

    private GraphScope Root => edit.Roots[0];

    /// <summary>Why codes of weights of a scope are not coded at their entropy, or null.</summary>
    public static string? WhyNot(GraphScope scope)
    {
        if (ModelEdit.Outermost(scope).Function is not null)
            return "constants of functions are not coded at their entropy";
        return OpsetRaise.Reachable(scope) is var opset and < OldestOpset
            ? $"operator set {opset} has no CumSum, which decoding takes; convert the model to {OldestOpset} or later"
            : null;
    }

    /// <summary>Adds nodes that decode constants, which are removed.</summary>
    /// <param name="edit">The edit of the model.</param>
    /// <param name="coded">The stream.</param>
    /// <param name="constants">
    /// The constants that pieces name, UINT8 or INT8, and their scopes, which see the main graph; those without a piece stay.
    /// </param>
    public static void Add(ModelEdit edit, CodedStream coded, IReadOnlyList<(GraphScope Scope, TensorProto Tensor)> constants)
    {
        var graph = new RansNodes(edit);
        graph.Place(graph.Decode(coded), coded.Pieces, constants);
        ModelEdit.InsertFirst(graph.Root, graph.nodes);
    }

    /// <summary>The constants that a model decodes from streams, by name: their type and dimensions.</summary>
    /// <param name="scope">The main graph.</param>
    public static IReadOnlyDictionary<string, (DataType Type, long[] Dims)> Decoded(GraphScope scope)
    {
        var index = scope.Index;
        var found = new Dictionary<string, (DataType, long[])>(StringComparer.Ordinal);
        foreach (var node in scope.Nodes.Where(n => n is { OpType: "Reshape", Input.Count: 2 }))
        {
            var (value, type) = (node.Input[0], DataType.Uint8);
            if (index.Producer(value) is { OpType: "Cast" } cast)
                (value, type) = (cast.Input[0], DataType.Int8);
            var parts = index.Producer(value) is { OpType: "Concat" } concat ? [.. concat.Input] : new[] { value };
            if (
                index.Constant(node.Input[1]) is { DataType: (int)DataType.Int64 } dims
                && parts.All(p => index.Producer(p) is { OpType: "Split" } split && IsStream(split.Input[0]))
            )
                found[node.Output[0]] = (type, MemoryMarshal.Cast<byte, long>(TensorRef.InlineBytes(dims).Span).ToArray());
        }
        return found;

        bool IsStream(string value)
        {
            foreach (var op in (string[])["Reshape", "Transpose"])
                if (index.Producer(value) is { } node && node.OpType == op)
                    value = node.Input[0];
                else
                    return false;
            if (index.Producer(value) is not { OpType: "Gather" } gather)
                return false;
            var slots = index.Producer(gather.Input[1]);
            var call = slots is { OpType: "Concat" } ? index.Producer(slots.Input[0]) : slots;
            return call?.Domain.StartsWith(RansFunctions.Domain, StringComparison.Ordinal) == true;
        }
    }

    /// <summary>Puts plain constants in the place of those that are decoded, and drops what decoded them.</summary>
    /// <param name="edit">The edit of the model.</param>
    /// <param name="constants">The constants.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static void Replace(ModelEdit edit, IReadOnlyList<TensorProto> constants, CancellationToken cancellation)
    {
        var root = edit.Roots[0];
        foreach (var tensor in constants)
        {
            var decoded = root.Index.Producer(tensor.Name)!;
            root.Edit(l => l.Replace(decoded, []));
            edit.Model.Graph.Initializer.Add(tensor);
        }
        edit.DropDead(cancellation);
        RansFunctions.Remove(edit.Model);
    }

    // The bytes of all lanes, one lane after another.
    private string Decode(CodedStream coded)
    {
        var (stream, domain) = (coded.Stream, RansFunctions.Domain);
        for (var i = 2; edit.Model.OpsetImport.Any(o => o.Domain == domain); i++)
            domain = RansFunctions.Domain + i;
        var (steps, several) = (stream.Steps - stream.LastSteps, coded.Tables.Count > 1);
        RansFunctions.Add(edit.Model, domain, Root.Opset, steps, stream.LastSteps, several);

        var lanes = stream.States.Length;
        var (values, constants) = Tables(coded.Tables);
        constants = [Cast(Constant<ushort>(DataType.Uint16, stream.Words, stream.Words.Length), DataType.Int32), .. constants];
        if (several)
            constants = [.. constants, Offsets(coded.Lanes)];
        var (state, place) = (Constant<int>(DataType.Int32, stream.States, 1, lanes), Scalar(-1));
        var slots = new List<string>();
        foreach (var (function, times) in RansFunctions.Plan(steps))
            for (var i = 0; i < times; i++)
            {
                var outputs = Call(function, [state, place, .. constants], "s", "p", "y");
                (state, place) = (outputs[0], outputs[1]);
                slots.Add(outputs[2]);
            }
        for (var i = 0; i < stream.LastSteps; i++)
        {
            var outputs = Call(RansFunctions.LastName, [state, .. constants], "s", "y");
            state = outputs[0];
            slots.Add(outputs[1]);
        }
        var all = slots.Count == 1 ? slots[0] : Add("Concat", [.. slots], ModelEdit.Attribute("axis", 0L));
        var bytes = Add("Transpose", [Add("Gather", [values, all])], ModelEdit.Attribute("perm", [1L, 0L]));
        return Reshape(bytes, -1);

        string[] Call(string function, string[] inputs, params string[] outputs)
        {
            outputs = [.. outputs.Select(edit.FreshName)];
            nodes.Add(ModelEdit.Node($"{domain}:{function}", inputs, outputs));
            return outputs;
        }
    }

    // The symbol of each slot of all tables; its frequency, and the slot less the start of its symbol, and numbers that functions take.
    private (string Values, string[] Constants) Tables(IReadOnlyList<FrequencyTable> tables)
    {
        byte[] symbols = [.. tables.SelectMany(t => t.Symbols)];
        ushort[] each = [.. tables.SelectMany(t => t.Frequencies)];
        var frequencies = Cast(Constant<ushort>(DataType.Uint16, each, each.Length), DataType.Int32);
        var (axis, one, total) = (Numbers(0), Scalar(1), tables.Count * FrequencyTable.Total);
        var starts = Add("Sub", [Add("CumSum", [frequencies, axis]), frequencies]);
        var zeros = Add(
            "ConstantOfShape",
            [Numbers(total)],
            ModelEdit.Attribute("value", ModelEdit.Tensor(DataType.Int32, new byte[4], 1))
        );
        // A one at the start of each symbol but the first: their sum up to a slot is the index of its symbol.
        var marks = Add("ScatterElements", [zeros, starts, Add("Div", [frequencies, frequencies])]);
        var index = Add("Sub", [Add("CumSum", [marks, axis]), one]);
        var bias = Add("Sub", [Add("Range", [Scalar(0), Scalar(total), one]), Add("Gather", [starts, index])]);
        var values = Add("Gather", [Constant<byte>(DataType.Uint8, symbols, symbols.Length), index]);
        return (
            values,
            [Add("Gather", [frequencies, index]), bias, Scalar(FrequencyTable.Total), Scalar(RansStream.Least), Scalar(1 << 16), Numbers(1)]
        );
    }

    // The first slot of each lane's table.
    private string Offsets(IReadOnlyList<int> lanes)
    {
        var ends = new int[lanes.Count];
        for (int i = 0, end = 0; i < ends.Length; i++)
            ends[i] = end += lanes[i];
        // Of each lane, how many tables end at it or before.
        var places = Add("Range", [Scalar(0), Scalar(ends[^1]), Scalar(1)]);
        string? offsets = null;
        foreach (var end in ends[..^1])
        {
            var behind = Cast(Add("Not", [Add("Less", [places, Scalar(end)])]), DataType.Int32);
            offsets = offsets is null ? behind : Add("Add", [offsets, behind]);
        }
        return Add("Mul", [offsets!, Scalar(FrequencyTable.Total)]);
    }

    private void Place(string bytes, IReadOnlyList<CodedPiece> pieces, IReadOnlyList<(GraphScope Scope, TensorProto Tensor)> constants)
    {
        var names = pieces.Select(_ => edit.FreshName("b")).ToList();
        long[] sizes = [.. pieces.Select(p => (long)p.Bytes)];
        nodes.Add(
            Root.Opset >= SplitWithInputs
                ? ModelEdit.Node("Split", [bytes, Numbers(sizes)], names, ModelEdit.Attribute("axis", 0L))
                : ModelEdit.Node("Split", [bytes], names, ModelEdit.Attribute("axis", 0L), ModelEdit.Attribute("split", sizes))
        );
        foreach (var i in pieces.Select(p => p.Constant).Where(c => c >= 0).Distinct().Order())
        {
            var (scope, tensor) = constants[i];
            string[] parts =
            [
                .. Enumerable
                    .Range(0, pieces.Count)
                    .Where(p => pieces[p].Constant == i)
                    .OrderBy(p => pieces[p].Offset)
                    .Select(p => names[p]),
            ];
            var value = parts.Length == 1 ? parts[0] : Add("Concat", parts, ModelEdit.Attribute("axis", 0L));
            if (tensor.DataType == (int)DataType.Int8)
                value = Cast(value, DataType.Int8);
            scope.Remove(tensor);
            nodes.Add(ModelEdit.Node("Reshape", [value, Numbers([.. tensor.Dims])], [tensor.Name]));
        }
    }

    private string Add(string op, string[] inputs, params AttributeProto[] attributes)
    {
        var output = edit.FreshName("r");
        nodes.Add(ModelEdit.Node(op, inputs, [output], attributes));
        return output;
    }

    private string Cast(string value, DataType type) => Add("Cast", [value], ModelEdit.Attribute("to", (long)type));

    private string Reshape(string value, params long[] dims) => Add("Reshape", [value, Numbers(dims)]);

    private string Scalar(int value) => edit.Share(Root, "n", ModelEdit.Tensor(DataType.Int32, BitConverter.GetBytes(value)));

    private string Numbers(params long[] values) =>
        edit.Share(Root, "n", ModelEdit.Tensor(DataType.Int64, MemoryMarshal.AsBytes<long>(values), values.Length));

    private string Constant<T>(DataType type, T[] values, params long[] dims)
        where T : struct => edit.AddConstant(Root, "c", ModelEdit.Tensor(type, MemoryMarshal.AsBytes<T>(values), dims));
}
