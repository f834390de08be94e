using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>
/// Gives values inside the graphs names of a few characters and drops node names. Exporters write names of a hundred
/// characters, twice and more each: in small models they outweigh the weights once those are quantized. Inputs and
/// outputs of the model, and functions, keep their names.
/// </summary>
public static class NameShortening
{
    private const string Digits = "0123456789abcdefghijklmnopqrstuvwxyz";

    /// <summary>Renames; does nothing to a model that refers to names from elsewhere (annotations, training).</summary>
    public static void Apply(ModelProto model)
    {
        if (model.TrainingInfo.Count > 0)
            return;
        var main = GraphScope.Of(model)[0];
        if (main.All().Any(s => s.Graph!.QuantizationAnnotation.Count > 0 || s.Graph.SparseInitializer.Count > 0))
            return;
        var fixedNames = model.Graph.Input.Concat(model.Graph.Output).Select(v => v.Name).ToHashSet(StringComparer.Ordinal);
        var next = 0;
        var renamed = new Dictionary<(GraphScope, string), string>();
        var resolved = new List<Action>();
        foreach (var scope in main.All())
        {
            var graph = scope.Graph!;
            foreach (var t in graph.Initializer)
                Later(t.Name, n => t.Name = n);
            foreach (var v in graph.Input)
                Later(v.Name, n => v.Name = n);
            foreach (var v in graph.Output)
                Later(v.Name, n => v.Name = n);
            foreach (var node in scope.Nodes)
            {
                for (var i = 0; i < node.Input.Count; i++)
                {
                    var at = i;
                    Later(node.Input[i], n => node.Input[at] = n);
                }
                for (var i = 0; i < node.Output.Count; i++)
                {
                    var at = i;
                    Later(node.Output[i], n => node.Output[at] = n);
                }
                node.ClearName();
            }

            void Later(string name, Action<string> set)
            {
                if (name.Length == 0 || scope.Resolve(name) is not { } home)
                    return;
                if (home == main && fixedNames.Contains(name))
                    return;
                if (!renamed.TryGetValue((home, name), out var to))
                {
                    do to = Short(next++);
                    while (fixedNames.Contains(to));
                    renamed[(home, name)] = to;
                }
                resolved.Add(() => set(to));
            }
        }
        foreach (var set in resolved)
            set();
    }

    // ONNX names are C identifiers: a letter first.
    private static string Short(int value)
    {
        var text = ((char)('a' + value % 26)).ToString();
        for (value /= 26; value > 0; value /= 36)
            text += Digits[value % 36];
        return text;
    }
}
