using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>Finds initializers that are the same bytes of a file: tied weights, as some exporters store them.</summary>
internal static class SharedBytes
{
    /// <summary>Name → the initializer of the same bytes, type, dimensions and uses that stands for it.</summary>
    public static Dictionary<string, string> Of(GraphScope scope)
    {
        var same = ConstantMerging
            .Inner(scope)
            .Where(t => t.DataLocation == TensorProto.Types.DataLocation.External)
            .GroupBy(Place)
            .Select(g => g.Select(t => t.Name).ToList())
            .Where(g => g.Count > 1)
            .ToList();
        var replaced = new Dictionary<string, string>(StringComparer.Ordinal);
        if (same.Count == 0)
            return replaced;
        var index = new GraphIndex(scope);
        // Operators want weights in forms of their own: a table that is looked up and multiplied with is kept twice, and so are
        // kernels, into which different normalizations may be folded.
        foreach (var group in same)
        {
            foreach (
                var alike in group
                    .Where(n => index.Consumers(n).All(u => u.OpType != "Conv"))
                    .GroupBy(n => Uses(index, n), StringComparer.Ordinal)
            )
                Replace([.. alike]);
        }
        return replaced;

        void Replace(List<string> names)
        {
            foreach (var name in names.Skip(1))
                replaced[name] = names[0];
        }
    }

    private static (string?, long, int, string) Place(TensorProto tensor)
    {
        var reference = TensorRef.From(tensor, tensor.Name);
        return (reference.File, reference.Offset, reference.DataType, string.Join(',', reference.Dims));
    }

    private static string Uses(GraphIndex index, string name) =>
        string.Join('|', index.Consumers(name).SelectMany(n => Places(n, name)).Distinct().Order(StringComparer.Ordinal));

    private static IEnumerable<string> Places(NodeProto node, string name) =>
        Enumerable.Range(0, node.Input.Count).Where(i => node.Input[i] == name).Select(i => $"{node.Domain}:{node.OpType}:{i}");
}
