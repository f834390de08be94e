using Serverless.Core.Grids;
using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>Symbols packed (<see cref="PackedIndices"/>), and codebooks in which they are looked up at load.</summary>
internal sealed class CodebookForm : Form
{
    /// <inheritdoc/>
    public override string Name => FormName.Codebook;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Place(ModelEdit edit, Weight weight, EncodedLayer layer, string shard) =>
        CodebookNodes.Place(edit, weight, layer, shard, new PackedIndices(shard));

    /// <inheritdoc/>
    public override double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard)
    {
        var grid = (CodebookGrid)layer.Grid;
        var bytes = shard.Slice((int)layer.Codes.Offset, (int)layer.Codes.Length);
        return Decode(layer, PackedSymbols.Read(bytes, grid.Bits, layer.Shape.Rows * grid.Words(layer.Shape)), shard);
    }

    /// <summary>Decodes symbols as they are stored, outer × words × inner: the reference.</summary>
    public static double[] Decode(EncodedLayer layer, int[] stored, ReadOnlySpan<byte> shard)
    {
        var (shape, words) = (layer.Shape, ((CodebookGrid)layer.Grid).Words(layer.Shape));
        var symbols = new int[stored.Length];
        for (var i = 0; i < stored.Length; i++)
        {
            var (outer, word, inner) = (i / shape.Inner / words, i / shape.Inner % words, i % shape.Inner);
            symbols[(outer * shape.Inner + inner) * words + word] = stored[i];
        }
        return layer.Grid.Decode(symbols, shard, shape);
    }
}
