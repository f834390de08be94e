using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>Puts shared matrices into a model: one initializer in the place of several, and sums with low-rank differences.</summary>
internal static class SharedModel
{
    /// <summary>Changes a model.</summary>
    /// <param name="model">The model, or a copy of it.</param>
    /// <param name="clusters">Blocks that share.</param>
    /// <param name="rank">Rank of each block's own difference; 0 for none.</param>
    /// <param name="cancellation">Cancels the work.</param>
    public static void Apply(ModelProto model, IEnumerable<BlockCluster> clusters, int rank, CancellationToken cancellation)
    {
        var sharing = clusters.Where(c => c.Blocks.Count > 1).ToList();
        if (sharing.Count == 0)
            return;
        var edit = new ModelEdit(model);
        var tensors = model.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var producers = model
            .Graph.Node.SelectMany(n => n.Output.Where(o => o.Length > 0).Select(o => (o, n)))
            .ToDictionary(p => p.o, p => p.n, StringComparer.Ordinal);
        var gone = new HashSet<string>(StringComparer.Ordinal);
        foreach (var cluster in sharing)
        {
            var kept = cluster.Blocks[0].Block.Matrices;
            foreach (var block in cluster.Blocks)
            foreach (var (name, values) in block.Values)
                if (block.Block.Matrices.All(m => m.Value != name))
                    Put(tensors[name], values);
            for (var m = 0; m < kept.Count; m++)
            {
                Put(tensors[kept[m].Value], cluster.Shared[m]);
                for (var b = 0; b < cluster.Blocks.Count; b++)
                {
                    var own = cluster.Blocks[b].Block.Matrices[m];
                    producers[own.Uses[0].Node.Output[0]].Input[own.Uses[0].Input] = HasDifference(kept[m], cluster.Blocks.Count, rank)
                        ? Sum(edit, own.Value, kept[m], cluster.Difference(b, m, rank, cancellation))
                        : kept[m].Value;
                    if (b > 0)
                        gone.Add(own.Value);
                }
            }
        }
        var left = model.Graph.Initializer.Where(t => !gone.Contains(t.Name)).ToList();
        model.Graph.Initializer.Clear();
        model.Graph.Initializer.AddRange(left);
    }

    /// <summary>Whether blocks that share a matrix have differences of a rank: only where all are smaller than the matrices.</summary>
    public static bool HasDifference(Weight matrix, int blocks, int rank)
    {
        var (elements, rows) = (matrix.Reference.Elements, matrix.Reference.Dims[0]);
        return rank > 0
            && (DataType)matrix.Type == DataType.Float
            && rank <= Math.Min(rows, elements / rows)
            && elements + blocks * rank * (rows + elements / rows) < blocks * elements;
    }

    // S + A·B, computed of constants alone, so that a runtime folds it at load.
    private static string Sum(ModelEdit edit, string name, Weight shared, LowRank difference)
    {
        var main = edit.Roots[0];
        var dims = shared.Reference.Dims;
        var a = edit.AddConstant(main, $"{name}/1", Floats(difference.Left, dims[0], difference.Rank));
        var b = edit.AddConstant(main, $"{name}/2", Floats(difference.Right, difference.Rank, shared.Reference.Elements / dims[0]));
        var product = edit.FreshName($"{name}/product");
        var nodes = new List<NodeProto> { ModelEdit.Node("MatMul", [a, b], [product]) };
        if (dims.Length > 2)
        {
            var shaped = edit.FreshName($"{name}/shaped");
            nodes.Add(ModelEdit.Node("Reshape", [product, edit.Int64s(main, dims)], [shaped]));
            product = shaped;
        }
        var sum = edit.FreshName($"{name}/sum");
        nodes.Add(ModelEdit.Node("Add", [shared.Value, product], [sum]));
        ModelEdit.InsertFirst(main, nodes);
        return sum;
    }

    private static TensorProto Floats(double[] values, params long[] dims) =>
        ModelEdit.Tensor(Array.ConvertAll(values, v => (float)v).AsSpan(), dims);

    private static void Put(TensorProto tensor, float[] values)
    {
        var raw = UnsafeByteOperations.UnsafeWrap(FloatConversion.FromFloat(values, tensor.DataType));
        tensor.ExternalData.Clear();
        tensor.ClearDataLocation();
        tensor.FloatData.Clear();
        tensor.DoubleData.Clear();
        tensor.Int32Data.Clear();
        tensor.RawData = raw;
    }
}
