using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.BiasCorrection;

/// <summary>
/// What compressed layers lack on average, without data (Nagel et al. 2019, section 4.2.1, eq. 17): E[y] − E[ỹ] = (W − W̃)·E[x],
/// the error of a convolution's kernel summed over its pixels. At the borders, where padding stands in for pixels, it is an approximation.
/// </summary>
internal static class DataFreeBiasCorrection
{
    /// <summary>Finds it.</summary>
    /// <param name="before">The model before compression.</param>
    /// <param name="beforeFolder">Local folder of its weights.</param>
    /// <param name="after">The compressed model, whose weights are decoded under their names.</param>
    /// <param name="afterFolder">Local folder of its weights.</param>
    /// <param name="values">Outputs of compressed Conv and Gemm nodes.</param>
    /// <param name="normalized">What batch normalizations make.</param>
    /// <returns>Output → what each channel lacks, for the layers whose expected input is known.</returns>
    public static IReadOnlyDictionary<string, float[]> Of(
        ModelProto before,
        string beforeFolder,
        ModelProto after,
        string afterFolder,
        IEnumerable<string> values,
        IReadOnlyDictionary<string, ChannelDistribution> normalized
    )
    {
        var inputs = new ExpectedInputs(new GraphFacts(before), normalized);
        var wanted = values.ToHashSet(StringComparer.Ordinal);
        var layers = before
            .Graph.Node.Where(n => n.Output.Count > 0 && wanted.Contains(n.Output[0]))
            .Select(n => (Node: n, Input: inputs.Of(n.Input[0])))
            .Where(l => l.Input is not null)
            .ToList();
        var names = layers.Select(l => l.Node.Input[1]).ToList();
        var (exact, decoded) = (ConstantValues.Read(before, beforeFolder, names), ConstantValues.Read(after, afterFolder, names));
        var found = new Dictionary<string, float[]>(StringComparer.Ordinal);
        var initializers = before.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        foreach (var (node, input) in layers)
        {
            if (!exact.TryGetValue(node.Input[1], out var w) || !decoded.TryGetValue(node.Input[1], out var q) || w.Length != q.Length)
                continue;
            if (initializers.GetValueOrDefault(node.Input[1])?.Dims is not { } dims)
                continue;
            if (Lack(node, [.. dims], w, q, input!.Mean) is { } lack && lack.All(float.IsFinite))
                found[node.Output[0]] = lack;
        }
        return found;
    }

    private static float[]? Lack(NodeProto node, long[] dims, float[] exact, float[] decoded, double[] input)
    {
        long Flag(string name, long otherwise) => node.Attribute.FirstOrDefault(a => a.Name == name)?.I ?? otherwise;
        // Weight (o, i, k) at o · outer + i · inner + k.
        var gemm = node.OpType == "Gemm";
        if (gemm && (Flag("transA", 0) != 0 || (node.Attribute.FirstOrDefault(a => a.Name == "alpha")?.F ?? 1) != 1))
            return null;
        var transposed = !gemm || Flag("transB", 0) != 0;
        var (outputs, each) = transposed ? ((int)dims[0], (int)dims[1]) : ((int)dims[1], (int)dims[0]);
        var kernel = exact.Length / (outputs * each);
        var groups = gemm ? 1 : (int)Flag("group", 1);
        if (input.Length != each * groups)
            return null;
        var lack = new float[outputs];
        for (var o = 0; o < outputs; o++)
        {
            var first = o / (outputs / groups) * each;
            double sum = 0;
            for (var i = 0; i < each; i++)
            {
                var at = transposed ? (o * each + i) * kernel : i * outputs + o;
                double error = 0;
                for (var k = 0; k < kernel; k++)
                    error += exact[at + k] - decoded[at + k];
                sum += error * input[first + i];
            }
            lack[o] = (float)sum;
        }
        return lack;
    }
}
