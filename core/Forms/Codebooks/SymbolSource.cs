using Serverless.Core.Grids;
using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>
/// Where the symbols of a codebook come from: the one place that knows how they lie in the file. What looks codewords up takes whatever a
/// source yields.
/// </summary>
internal abstract class SymbolSource
{
    /// <summary>Adds the nodes that yield the symbols.</summary>
    /// <param name="graph">Receives them.</param>
    /// <param name="bits">Bits of a symbol.</param>
    /// <param name="codes">The symbols in the shard.</param>
    /// <param name="count">How many there are.</param>
    /// <returns>An INT32 value of <paramref name="count"/> symbols, with one axis, each from 0 on.</returns>
    public abstract string Of(ConstantSubgraph graph, int bits, ShardRange codes, long count);
}
