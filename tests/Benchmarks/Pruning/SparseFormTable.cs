using System.Globalization;
using Serverless.Core.Forms;

namespace Serverless.Benchmarks;

/// <summary>
/// Bytes of each sparse form over the entropy of mask and values, for a layer of 400,000 weights (LeNet-5's largest) with zeros anywhere:
/// <c>sparse-forms</c>.
/// </summary>
internal static class SparseFormTable
{
    private const int Elements = 400_000;

    /// <summary>Prints the table.</summary>
    public static int Run()
    {
        Console.WriteLine("| bits of a weight | sparsity | bits a weight by entropy | Bitmap | Gap | better form |");
        Console.WriteLine("|---:|---:|---:|---:|---:|---:|");
        foreach (var bits in new[] { 32, 16, 8, 4, 2 })
        foreach (var sparsity in new[] { 0.5, 0.7, 0.9, 0.95 })
        {
            var bound = PrunedBytes.Bits(sparsity, bits);
            var bitmap = SparseBytes.Bitmap(Elements, 1 - sparsity, bits) * 8 / Elements / bound;
            var gap = SparseBytes.Gap(Elements, 1 - sparsity, bits) * 8 / Elements / bound;
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {bits} | {sparsity:0.00} | {bound:0.00} | {bitmap:0.000} | {gap:0.000} | {Math.Min(bitmap, gap):0.000} |"
                )
            );
        }
        return 0;
    }
}
