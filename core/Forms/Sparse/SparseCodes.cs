using System.Text.Json.Serialization;
using Serverless.Core.Grids;

namespace Serverless.Core.Forms;

/// <summary>Which symbols of a layer are stored; the others mean zero.</summary>
/// <param name="Mask">The bitmap, or the gaps, in the shard.</param>
/// <param name="Entries">Units that are stored.</param>
/// <param name="Unit">Symbols that are stored or left out together, one after another; divides their number.</param>
public sealed record SparseCodes(ShardRange Mask, long Entries, int Unit)
{
    /// <summary>Symbols that are stored: a unit of zeros, then the entries.</summary>
    [JsonIgnore]
    public long Values => (Entries + 1) * Unit;

    /// <summary>Bits of a gap: 2 to 8; 0 for a bitmap of one bit a unit.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int GapBits { get; init; }

    /// <summary>
    /// Whether values are their signs alone, a bit each: of two-bit symmetric symbols of which only −1 and +1 are left, as ternary ones.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Signs { get; init; }

    /// <summary>Gaps; 0 for a bitmap.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public long Gaps { get; init; }

    /// <summary>
    /// The gap that skips as many units as it says and is followed by no entry; smaller ones are followed by the next entry.
    /// </summary>
    [JsonIgnore]
    public int Skip => (1 << GapBits) - 1;
}
