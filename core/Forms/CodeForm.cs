using Serverless.Core.Grids;
using Serverless.Core.Model;

namespace Serverless.Core.Forms;

/// <summary>What the forms of a recipe's layers are chosen by.</summary>
public enum Store
{
    /// <summary>A kernel where it is faster than float, else symbols decoded at load.</summary>
    Balanced,

    /// <summary>The fewest bytes.</summary>
    Small,

    /// <summary>The least time of a run; then the fewest bytes.</summary>
    Fast,
}

/// <summary>Codes of an affine grid for which a form is chosen.</summary>
/// <param name="Bits">Bits a code.</param>
/// <param name="Group">Weights that share a scale; 0 for a channel, null for the default of the form.</param>
/// <param name="ZeroBytes">Bytes of a group's zero point.</param>
public sealed record CodeRequest(int Bits, int? Group, int ZeroBytes)
{
    /// <summary>Terms whose sum is the weight.</summary>
    public int Terms { get; init; } = 1;

    /// <summary>Whether a kernel may read the codes.</summary>
    public bool Kernel { get; init; } = true;

    /// <summary>Bits of a code where a kernel reads it.</summary>
    public int KernelBits { get; init; } = Bits;

    /// <summary>Rows shorter than this share groups with the rows after them; 0 for never.</summary>
    public int ShortestBlock { get; init; }
}

/// <summary>How a form would store codes of a weight.</summary>
/// <param name="Form">The form.</param>
/// <param name="Shape">How it views the weight.</param>
/// <param name="Bits">Bits a code.</param>
/// <param name="Block">Codes that share a scale.</param>
/// <param name="Bytes">Bytes of codes, scales, zero points and nodes.</param>
/// <param name="Time">Time of a run over that of float, as measured for such shapes (core/docs/storage-forms.md).</param>
/// <param name="Pays">Whether it is the balanced choice.</param>
public sealed record FormOffer(CodeForm Form, LayerShape Shape, int Bits, int Block, long Bytes, double Time, bool Pays)
{
    /// <summary>The nodes' part of the bytes.</summary>
    public long NodeBytes { get; init; }
}

/// <summary>A form for codes of an affine grid, which are many forms' to store.</summary>
public abstract class CodeForm : Form
{
    /// <summary>Scales from which they are stored as FLOAT16, where the form takes such: fewer are not worth the Cast.</summary>
    public const int HalfScalesFrom = 32;

    /// <summary>Whether scales may be FLOAT16.</summary>
    public virtual bool TakesHalfScales => false;

    /// <summary>What the form would make of a weight, or null where it cannot.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">How it is viewed.</param>
    /// <param name="request">The codes.</param>
    public abstract FormOffer? Offer(Weight weight, LayerShape shape, CodeRequest request);

    /// <summary>The form for a weight.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">How it is viewed.</param>
    /// <param name="store">What to choose by.</param>
    /// <param name="request">The codes.</param>
    public static FormOffer Choose(Weight weight, LayerShape shape, Store store, CodeRequest request)
    {
        var offers = All
            .Values.OfType<CodeForm>()
            .Select(f => f.Offer(weight, shape, request))
            .OfType<FormOffer>()
            .OrderBy(o => o.Form.Name, StringComparer.Ordinal)
            .ToList();
        return store switch
        {
            Store.Small => offers.MinBy(o => o.Bytes)!,
            Store.Fast => offers.OrderBy(o => o.Time).ThenBy(o => o.Bytes).First(),
            _ => offers.FirstOrDefault(o => o.Pays && o.Form is not FoldedForm) ?? offers.Single(o => o.Form is FoldedForm),
        };
    }
}

/// <summary>A form whose codes a kernel of ONNX Runtime reads at each run.</summary>
public abstract class KernelForm : CodeForm
{
    private const int Node = 160,
        SmallestBlock2Bits = 64;

    /// <inheritdoc/>
    public override long OldestOpset => 1;

    /// <inheritdoc/>
    public override FormOffer? Offer(Weight weight, LayerShape shape, CodeRequest request)
    {
        if (!request.Kernel || request.KernelBits is not (2 or 4 or 8) || (request.Group == 0 && !TakesChannels))
            return null;
        if (weight is not { Type: (int)Model.Schema.TensorProto.Types.DataType.Float, Reference.Dims.Length: 2 })
            return null;
        if (weight.Scope.Function is not null || !weight.Uses.All(u => u.Direct && u.Scope.Function is null))
            return null;
        var block = Block(request, shape);
        if (!Fits(weight, shape, request, block))
            return null;
        var blocks = (shape.Axis + block - 1) / block;
        var count = shape.Rows * blocks;
        var codes = Numerics.BitPacking.PlaneBytes(count * block, request.KernelBits) * request.Terms;
        var scaleBytes = TakesHalfScales && count * request.Terms >= HalfScalesFrom ? 2L : 4;
        var bytes = codes + count * (scaleBytes * request.Terms + request.ZeroBytes) + Node;
        var pays = Pays(shape, request);
        return new FormOffer(this, shape, request.KernelBits, block, bytes, Time(pays), pays) { NodeBytes = Node };
    }

    /// <inheritdoc/>
    public override double[] Decode(EncodedLayer layer, ReadOnlySpan<byte> shard)
    {
        var grid = (AffineGrid)(layer.Grid is ScaledGrid s ? s.Inner : layer.Grid);
        var codes = shard.Slice((int)layer.Codes.Offset, (int)layer.Codes.Length);
        var symbols = PackedSymbols.Read(codes, grid.Bits, layer.Shape.Rows * grid.PaddedAxis);
        if (grid.Zeros is not { Range: var range })
            return layer.Grid.Decode(symbols, shard, layer.Shape);
        // Zero points are packed like symbols, each row on bytes of its own.
        var packed = shard.Slice((int)range.Offset, (int)range.Length);
        var whole = new byte[layer.Shape.Rows * grid.Groups];
        var stride = packed.Length / (int)layer.Shape.Rows;
        for (var row = 0; row < layer.Shape.Rows; row++)
        {
            var zeros = PackedSymbols.Read(packed.Slice(row * stride, stride), grid.Bits, grid.Groups);
            for (var g = 0; g < zeros.Length; g++)
                whole[row * grid.Groups + g] = (byte)zeros[g];
        }
        byte[] unpacked = [.. shard, .. whole];
        var plain = grid with { Zeros = grid.Zeros with { Range = new ShardRange(shard.Length, whole.Length) } };
        return (layer.Grid is ScaledGrid scaled ? scaled with { Inner = plain } : (Grid)plain).Decode(symbols, unpacked, layer.Shape);
    }

    /// <summary>Whether the kernel takes the weight.</summary>
    protected abstract bool Fits(Weight weight, LayerShape shape, CodeRequest request, int block);

    /// <summary>Whether a whole row may share a scale.</summary>
    protected virtual bool TakesChannels => false;

    /// <summary>Whether it is the balanced choice.</summary>
    protected abstract bool Pays(LayerShape shape, CodeRequest request);

    /// <summary>Time of a run over that of float.</summary>
    protected abstract double Time(bool pays);

    private static int Block(CodeRequest o, LayerShape shape) =>
        (o.Group, o.KernelBits) switch
        {
            (0, _) => checked((int)shape.Axis),
            ({ } group, _) => group,
            (_, 8) => 64,
            (_, 4) => 32,
            _ => SmallestBlock2Bits,
        };
}
