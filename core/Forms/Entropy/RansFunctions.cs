using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Model-local functions that decode a stream (<see cref="Numerics.RansStream"/>): one step of all lanes, several of these, several of
/// those and so on, so that any number of steps takes few bytes. ONNX Runtime inlines functions and folds what they compute of constants.
/// Names are of one letter, as each call repeats them.
/// </summary>
internal static class RansFunctions
{
    /// <summary>The domain of the functions.</summary>
    public const string Domain = "rans";

    /// <summary>Inputs of every function: the words, frequency and bias of each slot, 2^14, 2^15, 2^16, the axis of lanes.</summary>
    public static readonly string[] Constants = ["w", "F", "B", "m", "l", "g", "a"];

    private const string State = "s",
        Place = "p",
        Table = "O",
        Last = "z";

    private const int Calls = 4;

    /// <summary>Adds the functions that some steps need.</summary>
    /// <param name="model">Receives them, the import of their domain and IR version 8, which functions need.</param>
    /// <param name="domain">Their domain.</param>
    /// <param name="opset">The operator set of the main graph.</param>
    /// <param name="steps">Steps that may take words, 0 or more.</param>
    /// <param name="last">Steps that take none.</param>
    /// <param name="tables">Whether lanes have tables of their own.</param>
    public static void Add(ModelProto model, string domain, long opset, int steps, int last, bool tables)
    {
        var constants = Inputs(tables);
        for (var level = 0; level < Levels(steps); level++)
            Function($"{level}", ["t", "q", "y"], level == 0 ? Step(tables) : Several(level, constants, domain));
        if (last > 0)
            Function(Last, ["t", "y"], LastStep(tables));
        model.IrVersion = Math.Max(model.IrVersion, 8);
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = domain, Version = 1 });

        void Function(string name, string[] outputs, IEnumerable<NodeProto> nodes)
        {
            var function = new FunctionProto { Name = name, Domain = domain };
            function.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = opset });
            function.OpsetImport.Add(new OperatorSetIdProto { Domain = domain, Version = 1 });
            function.Input.AddRange([State, .. name == Last ? [] : new[] { Place }, .. constants]);
            function.Output.AddRange(outputs);
            function.Node.AddRange(nodes);
            model.Functions.Add(function);
        }
    }

    /// <summary>Removes the functions of domains that no node of the main graph calls any more.</summary>
    public static void Remove(ModelProto model)
    {
        var called = model.Graph.Node.Select(n => n.Domain).ToHashSet(StringComparer.Ordinal);
        var domains = model
            .Functions.Select(f => f.Domain)
            .Where(d => d.StartsWith(Domain, StringComparison.Ordinal) && !called.Contains(d))
            .ToHashSet(StringComparer.Ordinal);
        Keep(model.Functions, f => !domains.Contains(f.Domain));
        Keep(model.OpsetImport, o => !domains.Contains(o.Domain));

        static void Keep<T>(Google.Protobuf.Collections.RepeatedField<T> all, Func<T, bool> kept)
        {
            var left = all.Where(kept).ToList();
            all.Clear();
            all.AddRange(left);
        }
    }

    /// <summary>The calls that decode all steps, as function and how often, one after another.</summary>
    public static IEnumerable<(string Function, int Times)> Plan(int steps)
    {
        for (var level = Levels(steps) - 1; level >= 0; level--)
        {
            var count = (int)Math.Pow(Calls, level);
            yield return ($"{level}", steps / count);
            steps %= count;
        }
    }

    /// <summary>Inputs of the functions behind state and place.</summary>
    public static string[] Inputs(bool tables) => tables ? [.. Constants, Table] : Constants;

    /// <summary>The function that takes no words.</summary>
    public static string LastName => Last;

    // The largest function has no more steps than there are.
    private static int Levels(int steps)
    {
        var levels = 0;
        for (long count = 1; count <= steps; count *= Calls)
            levels++;
        return levels;
    }

    // i = s mod m; v = F[i] · (s div m) + B[i]; lanes with v < 2^15 take the next word: v · 2^16 + word.
    private static IEnumerable<NodeProto> Step(bool tables) =>
        [
            .. Symbol(tables, "v"),
            Node("Less", ["v", "l"], "k"),
            ModelEdit.Node("Cast", ["k"], ["c"], ModelEdit.Attribute("to", (long)DataType.Int32)),
            Node("CumSum", ["c", "a"], "e"),
            Node("Add", ["e", Place], "o"),
            Node("Gather", ["w", "o"], "r"),
            ModelEdit.Node("ReduceSum", ["c"], ["n"], ModelEdit.Attribute("keepdims", 0L)),
            Node("Add", [Place, "n"], "q"),
            Node("Mul", ["v", "g"], "x"),
            Node("Add", ["x", "r"], "d"),
            Node("Where", ["k", "d", "v"], "t"),
        ];

    private static IEnumerable<NodeProto> LastStep(bool tables) => Symbol(tables, "t");

    private static IEnumerable<NodeProto> Symbol(bool tables, string output)
    {
        yield return Node("Div", [State, "m"], "h");
        yield return Node("Mod", [State, "m"], tables ? "i" : "y");
        if (tables)
            yield return Node("Add", ["i", Table], "y");
        yield return Node("Gather", ["F", "y"], "f");
        yield return Node("Gather", ["B", "y"], "b");
        yield return Node("Mul", ["f", "h"], "u");
        yield return Node("Add", ["u", "b"], output);
    }

    private static IEnumerable<NodeProto> Several(int level, string[] constants, string domain)
    {
        var (state, place) = (State, Place);
        for (var i = 0; i < Calls; i++)
        {
            var (s, p) = i == Calls - 1 ? ("t", "q") : ($"{(char)('T' + i)}", $"{(char)('P' + i)}");
            yield return ModelEdit.Node($"{domain}:{level - 1}", [state, place, .. constants], [s, p, $"{i}"]);
            (state, place) = (s, p);
        }
        var slots = Enumerable.Range(0, Calls).Select(i => $"{i}");
        yield return ModelEdit.Node("Concat", slots, ["y"], ModelEdit.Attribute("axis", 0L));
    }

    private static NodeProto Node(string op, string[] inputs, string output) => ModelEdit.Node(op, inputs, [output]);
}
