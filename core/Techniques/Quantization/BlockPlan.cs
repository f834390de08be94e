using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>What a block-wise technique needs a plan for.</summary>
/// <param name="Bits">Bits a code.</param>
/// <param name="Group">Weights that share a scale; 0 for a channel, null for the default of the form.</param>
/// <param name="ZeroBytes">Bytes of a block's zero point.</param>
internal sealed record BlockRequest(int Bits, int? Group, int ZeroBytes)
{
    /// <summary>Terms whose sum is the weight.</summary>
    public int Terms { get; init; } = 1;

    /// <summary>Whether a kernel may read the codes.</summary>
    public bool Kernel { get; init; } = true;

    /// <summary>Bits of a code where a kernel reads it.</summary>
    public int KernelBits { get; init; } = Bits;

    /// <summary>Rows shorter than this share blocks with the rows after them; 0 for never.</summary>
    public int ShortestBlock { get; init; }
}

/// <summary>
/// Which storage form and block size suit a weight. MatMulNBits beats float from half a million weights on; below, and for
/// every other operator, the folded form runs exactly as fast as float (core/docs/storage-forms.md has the figures).
/// </summary>
internal static class BlockPlan
{
    private const long MatMulNBitsFrom = 1 << 19,
        MatMulNBitsAxisFrom = 512;
    private const long GatherBlockQuantizedFrom = 16 << 20;
    private const int SmallestKernelBlock2Bits = 64,
        DefaultFoldedBlock = 32;

    // What the nodes and initializers of a form add to the graph, found by writing them.
    private const int MatMulNBitsNode = 160,
        FoldedNodes8 = 120,
        FoldedNodesPacked = 215,
        FoldedNodesPlane = 145;

    public static LayerPlan Of(Weight weight, LayerShape shape, BlockRequest request)
    {
        var form = Form(weight, shape, request);
        if (form == StorageForm.Folded)
            shape = Joined(shape, request.ShortestBlock);
        var bits = form == StorageForm.Folded ? request.Bits : request.KernelBits;
        var block = form == StorageForm.Folded ? FoldedBlock(shape.Axis, request) : KernelBlock(request);
        var blocks = (shape.Axis + block - 1) / block;
        var count = shape.Rows * blocks;
        var scaleBytes = form == StorageForm.Folded && count * request.Terms >= BlockEncoding.HalfScalesFrom ? 2 : 4;
        var parts = BitPacking.Planes(bits).Count * request.Terms;
        var nodes =
            form != StorageForm.Folded ? MatMulNBitsNode
            : bits >= 8 ? FoldedNodes8
            : FoldedNodesPacked + (parts - 1) * FoldedNodesPlane;
        var codes = BitPacking.PlaneBytes(shape.Rows * blocks * block, bits) * request.Terms;
        var bytes = codes + count * (scaleBytes * request.Terms + request.ZeroBytes) + nodes;
        var slab = shape.Inner == 1 ? Math.Max(1 << 18, 8 * shape.Axis) : 2L * block * shape.Inner;
        var working = slab * 5 + count * 8 * request.Terms + (shape.Inner == 1 && parts == 1 ? 0 : bytes);
        return new LayerPlan(form, bits, block, bytes, working) { Shape = shape };
    }

    private static StorageForm Form(Weight weight, LayerShape shape, BlockRequest o)
    {
        if (!o.Kernel || o.KernelBits is not (2 or 4 or 8) || o.Group == 0)
            return StorageForm.Folded;
        if (weight is not { Type: (int)DataType.Float, Reference.Dims.Length: 2 } || weight.Scope.Function is not null)
            return StorageForm.Folded;
        if (!weight.Uses.All(u => u.Direct && u.Scope.Function is null))
            return StorageForm.Folded;
        if (
            shape.Elements >= MatMulNBitsFrom
            && shape.Axis >= MatMulNBitsAxisFrom
            && weight.Uses.All(IsMatMul)
            && weight.Uses.Select(TransB).Distinct().Count() == 1
            && !(o.KernelBits == 2 && o.Group < SmallestKernelBlock2Bits)
        )
            return StorageForm.MatMulNBits;
        if (
            shape.Elements >= GatherBlockQuantizedFrom
            && o.KernelBits is 4 or 8
            && weight.Uses.All(u => u.Op == "Gather" && u.IntAttribute("axis", 0) == 0)
            && shape.Axis % KernelBlock(o) == 0
        )
            return StorageForm.GatherBlockQuantized;
        return StorageForm.Folded;
    }

    private static bool IsMatMul(WeightUse use) =>
        use is { Op: "MatMul", Input: 1 } || (use is { Op: "Gemm", Input: 1 } && use.IntAttribute("transA", 0) == 0);

    private static bool TransB(WeightUse use) => use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;

    private static int KernelBlock(BlockRequest o) =>
        o.Group is { } g and > 0
            ? g
            : o.KernelBits switch
            {
                8 => 64,
                4 => 32,
                _ => SmallestKernelBlock2Bits,
            };

    // Rows of a few weights each would pay a scale for every one: where they lie in order, several make one row.
    private static LayerShape Joined(LayerShape shape, int shortest)
    {
        if (shape.Inner != 1 || shape.Axis >= shortest)
            return shape;
        for (var k = (shortest + shape.Axis - 1) / shape.Axis; k <= shape.Rows && k * shape.Axis < 4L * shortest; k++)
            if (shape.Rows % k == 0)
                return new LayerShape(shape.Rows / k, shape.Axis * k, 1);
        return new LayerShape(1, shape.Elements, 1);
    }

    // The largest divisor of the axis no larger than the group, so that rows need no padding; blocks of about equal
    // length when none is near, padded by less than one code each.
    private static int FoldedBlock(long axis, BlockRequest o)
    {
        var group = o.Bits == 16 ? 0 : o.Group ?? DefaultFoldedBlock;
        if (group == 0 || axis <= group)
            return checked((int)axis);
        for (var d = group; d > group / 2; d--)
            if (axis % d == 0)
                return d;
        var blocks = (axis + group - 1) / group;
        return (int)((axis + blocks - 1) / blocks);
    }
}
