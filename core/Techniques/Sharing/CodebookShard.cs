using System.Numerics;
using Serverless.Core.Forms;
using Serverless.Core.Grids;

namespace Serverless.Core.Techniques.Sharing;

/// <summary>A layer's symbols, codebooks and errors, to be written.</summary>
/// <param name="Layout">Where they belong.</param>
/// <param name="Symbols">In the order outer × words × inner.</param>
/// <param name="Books">Codebook after codebook.</param>
internal sealed record CodedWeights(CodebookLayout Layout, ushort[] Symbols, CodebookValues Books)
{
    /// <summary>Codewords of a codebook.</summary>
    public int Entries => (int)(Books.Values.Length / Layout.Dimension / Layout.Books);

    /// <summary>Scales of rows, or null.</summary>
    public CodebookValues? Scales { get; init; }

    /// <summary>Whether the codebook is one that all layers share.</summary>
    public bool IsShared { get; init; }

    /// <inheritdoc cref="CodebookGrid.HasZero"/>
    public bool HasZero { get; init; }

    /// <summary>Squared error of the weights.</summary>
    public double Error { get; init; }

    /// <summary>Sum of the squares of the weights.</summary>
    public double Squares { get; init; }

    /// <summary>Weights that are not zero after decoding.</summary>
    public long Nonzero { get; init; }

    /// <summary>Writes symbols, codebooks and scales, one behind the other; symbols in as few bits as the codewords take.</summary>
    public async Task<EncodedLayer> WriteAsync(Stream shard, CancellationToken cancellation)
    {
        var bits = Math.Max(1, BitOperations.Log2((uint)Math.Max(1, Entries - 1)) + 1);
        await PackedIndices.WriteAsync(Symbols, bits, shard, cancellation);
        var end = (Layout with { Bits = bits }).CodeBytes;
        var codes = new ShardRange(0, end);
        var grid = new CodebookGrid(bits, Layout.Dimension, Entries, Layout.BookRows, IsShared ? null : await NumbersAsync(Books))
        {
            Shared = IsShared ? Books.Values : null,
            Scales = Scales is { } s ? await NumbersAsync(s) : null,
            HasZero = HasZero,
        };
        var relative = Squares == 0 ? 0 : Math.Sqrt(Error / Squares);
        return new EncodedLayer(FormName.Codebook, Layout.Shape, grid, codes, relative, Nonzero);

        async Task<ShardNumbers> NumbersAsync(CodebookValues numbers)
        {
            var bytes = numbers.ToBytes();
            await shard.WriteAsync(bytes, cancellation);
            end += bytes.Length;
            return new ShardNumbers(new ShardRange(end - bytes.Length, bytes.Length), (int)numbers.Type);
        }
    }
}
