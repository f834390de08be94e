using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Activations;

/// <summary>
/// Which layers stay in float although they could be integer kernels: those that no sample reached, those whose range nobody can tell
/// without
/// data, those that make an output of the model, and the first
/// convolutions of a network, whose few channels keep integer kernels waiting for memory while float ones are laid out
/// channel by channel. The latter up to a share of all the convolutions' multiplications.
/// </summary>
internal static class QdqExclusions
{
    private const double MostFloatWork = 0.08;
    private const int FewOutputs = 64,
        FewInputs = 4;

    /// <summary>Weight → why it stays in float.</summary>
    /// <param name="weights">The layers that could be integer kernels.</param>
    /// <param name="main">The main graph.</param>
    /// <param name="observed">What is known of a value.</param>
    public static IReadOnlyDictionary<string, string> Floats(
        IReadOnlyList<Weight> weights,
        GraphScope main,
        Func<string, ObservedValue?> observed
    )
    {
        var floats = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var w in weights)
            if (!w.Uses.Any(u => observed(u.Node.Input[0]) is not null && observed(QdqGraph.Output(u)) is not null))
                floats[w.Name] = "no sample reached it";
        foreach (var w in weights)
        {
            var growth = w.Uses.SelectMany(u => new[] { u.Node.Input[0], QdqGraph.Output(u) }).Max(v => observed(v)?.Growth ?? 1);
            if (growth > 1)
                floats.TryAdd(
                    w.Name,
                    $"its range grows {growth:0}-fold from quiet to loud inputs, and there is no data to tell which it gets"
                );
        }
        // Rounding what the model puts out saves nothing, and without it the convolution is no integer kernel.
        foreach (var w in weights.Where(w => w.Uses.All(u => u.Op == "Conv" && main.Index.IsOutput(QdqGraph.Output(u)))))
            floats.TryAdd(w.Name, "its output is the model's");
        var order = new Dictionary<object, int>(ReferenceEqualityComparer.Instance);
        for (var i = 0; i < main.Nodes.Count; i++)
            order[main.Nodes[i]] = i;
        var convolutions = weights
            .Where(w => w.Uses is [{ Op: "Conv" }] && !floats.ContainsKey(w.Name))
            .OrderBy(w => order[w.Uses[0].Node])
            .ToList();
        var work = convolutions.ToDictionary(
            w => w,
            w => observed(QdqGraph.Output(w.Uses[0]))!.Value.Elements * w.Reference.Elements / w.Reference.Dims[0]
        );
        var left = MostFloatWork * work.Values.Sum();
        foreach (var w in convolutions)
        {
            if (
                w.Reference.Dims[0] >= FewOutputs && w.Reference.Dims[1] * w.Uses[0].IntAttribute("group", 1) >= FewInputs
                || (left -= work[w]) < 0
            )
                break;
            floats[w.Name] = "among the network's first convolutions, which are faster in float";
        }
        return floats;
    }
}
