using Serverless.Core.Grids;
using Serverless.Core.Storage;

namespace Serverless.Core.Forms;

/// <summary>Copies the numbers of a grid from one shard to another, behind what is there.</summary>
internal static class MovedGrid
{
    /// <summary>Copies them.</summary>
    /// <param name="from">The shard that the grid is about.</param>
    /// <param name="grid">The grid.</param>
    /// <param name="end">Bytes of the other shard so far.</param>
    /// <param name="output">The other shard.</param>
    /// <param name="cancellation">Cancels the copy.</param>
    /// <returns>The grid in the other shard.</returns>
    public static async Task<Grid> WriteAsync(ArtifactReader from, Grid grid, long end, Stream output, CancellationToken cancellation)
    {
        return await MovedAsync(grid);

        async Task<Grid> MovedAsync(Grid of) =>
            of switch
            {
                ScaledGrid s => new ScaledGrid(await MovedAsync(s.Inner), await NumbersAsync(s.Factors)),
                CodebookGrid c => c with
                {
                    Values = c.Values is { } v ? await NumbersAsync(v) : null,
                    Scales = c.Scales is { } f ? await NumbersAsync(f) : null,
                },
                AffineGrid a => a with { Scales = await NumbersAsync(a.Scales), Zeros = a.Zeros is { } z ? await NumbersAsync(z) : null },
                _ => of,
            };

        async Task<ShardNumbers> NumbersAsync(ShardNumbers numbers)
        {
            await from.CopyToAsync(numbers.Range.Offset, numbers.Range.Length, output, cancellation);
            end += numbers.Range.Length;
            return numbers with { Range = new ShardRange(end - numbers.Range.Length, numbers.Range.Length) };
        }
    }
}
