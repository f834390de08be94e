using Serverless.Core.Grids;
using Serverless.Core.Model;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Forms;

/// <summary>
/// Places as the number of zeros in front of each unit, in a few bits (Han et al. 2016, "Deep Compression", section 2): at load they are
/// added up. A gap too long for its bits is several; the paper stores a zero behind each but the last, this form nothing.
/// </summary>
internal sealed class GapForm : SparseForm
{
    /// <inheritdoc/>
    public override string Name => FormName.Gap;

    /// <inheritdoc/>
    public override (string Values, Lazy<string> Mask) Dense(
        ConstantSubgraph graph,
        SparseCodes sparse,
        string shard,
        string values,
        long count,
        DataType type
    )
    {
        var gaps = CodeSymbols.Levels(graph, Grid(sparse), shard, sparse.Mask, sparse.Gaps, [sparse.Gaps]);
        // A skip ends at the last of its zeros and takes zero; another gap ends at the unit behind it.
        var most = graph.Edit.Share(graph.Scope, "gap_skip", ModelEdit.Tensor([sparse.Skip], 1));
        var held = graph.Cast(graph.Add("Less", [gaps, most]), DataType.Int32);
        var steps = graph.Add("Add", [graph.Cast(gaps, DataType.Int32), held]);
        var ends = graph.Add("CumSum", [steps, graph.Edit.Int64s(graph.Scope, 0)]);
        var places = graph.Add("Sub", [graph.Cast(ends, DataType.Int64), graph.Edit.Int64s(graph.Scope, 1)]);
        return (
            Scatter(Take(graph, sparse, values, Numbers(graph, held)), type, sparse.Unit),
            new Lazy<string>(() => Scatter(graph.Cast(held, DataType.Float), DataType.Float, 1))
        );

        string Scatter(string updates, DataType of, int unit) =>
            unit == 1
                ? graph.Add("ScatterElements", [graph.Zeros(of, count / sparse.Unit), places, updates])
                : graph.Add("ScatterND", [graph.Zeros(of, count / unit, unit), graph.Reshape(places, sparse.Gaps, 1), updates]);
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<long> Places(SparseCodes sparse, ReadOnlySpan<byte> mask)
    {
        var gaps = CodeSymbols.Read(mask, Grid(sparse), sparse.Gaps);
        var (places, at) = (new List<long>(), 0L);
        foreach (var gap in gaps)
        {
            at += gap;
            if (gap != sparse.Skip)
                places.Add(at++);
        }
        return places;
    }

    private static AffineGrid Grid(SparseCodes sparse) =>
        new(sparse.GapBits, 1, 1, false, new ShardNumbers(new ShardRange(0, 0), (int)DataType.Float), null);
}
