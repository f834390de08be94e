using Serverless.Core.Numerics;
using Serverless.Core.Onnx;
using DataType = Serverless.Core.Onnx.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>
/// Which storage form and block size suit a weight. MatMulNBits beats float from half a million weights on; below, and for
/// every other operator, the folded form runs exactly as fast as float (core/docs/storage-forms.md has the figures).
/// </summary>
internal static class BlockPlan
{
    private const long MatMulNBitsFrom = 1 << 19, MatMulNBitsAxisFrom = 512;
    private const long GatherBlockQuantizedFrom = 16 << 20;
    private const int SmallestKernelBlock2Bits = 64;

    // What the nodes and initializers of a form add to the graph, found by writing them.
    private const int MatMulNBitsNode = 160, FoldedNodes8 = 120, FoldedNodesPacked = 260;

    public static LayerPlan Of(Weight weight, LayerShape shape, RoundToNearestOptions options, int halfScalesFrom)
    {
        var form = Form(weight, shape, options);
        var block = form == StorageForm.Folded ? FoldedBlock(shape.Axis, options) : KernelBlock(shape.Axis, options);
        var blocks = (shape.Axis + block - 1) / block;
        var count = shape.Rows * blocks;
        var scaleBytes = form == StorageForm.Folded && count >= halfScalesFrom ? 2 : 4;
        var nodes = form != StorageForm.Folded ? MatMulNBitsNode : options.Bits >= 8 ? FoldedNodes8 : FoldedNodesPacked;
        var bytes = BitPacking.Bytes(shape.Rows * blocks * block, options.Bits) + count * (scaleBytes + (options.Symmetric || options.Bits == 16 ? 0 : 1)) + nodes;
        var slab = shape.Inner == 1 ? Math.Max(1 << 18, 8 * shape.Axis) : 2L * block * shape.Inner;
        var working = slab * 5 + count * 8 + (shape.Inner == 1 ? 0 : bytes);
        return new LayerPlan(form, options.Bits, block, bytes, working);
    }

    private static StorageForm Form(Weight weight, LayerShape shape, RoundToNearestOptions o)
    {
        if (weight.Reference is not { DataType: (int)DataType.Float, Dims.Length: 2 } || weight.Scope.Function is not null || o.Group == 0 || o.Bits == 16) return StorageForm.Folded;
        if (!weight.Uses.All(u => u.Direct && u.Scope.Function is null)) return StorageForm.Folded;
        if (shape.Elements >= MatMulNBitsFrom && shape.Axis >= MatMulNBitsAxisFrom && weight.Uses.All(IsMatMul) && weight.Uses.Select(TransB).Distinct().Count() == 1
            && !(o.Bits == 2 && o.Group < SmallestKernelBlock2Bits))
            return StorageForm.MatMulNBits;
        if (shape.Elements >= GatherBlockQuantizedFrom && o.Bits is 4 or 8 && weight.Uses.All(u => u.Op == "Gather" && u.IntAttribute("axis", 0) == 0)
            && shape.Axis % KernelBlock(shape.Axis, o) == 0)
            return StorageForm.GatherBlockQuantized;
        return StorageForm.Folded;
    }

    private static bool IsMatMul(WeightUse use) =>
        use is { Op: "MatMul", Input: 1 } || (use is { Op: "Gemm", Input: 1 } && use.IntAttribute("transA", 0) == 0);

    private static bool TransB(WeightUse use) => use.Op == "Gemm" && use.IntAttribute("transB", 0) != 0;

    private static int KernelBlock(long axis, RoundToNearestOptions o) =>
        o.Group is { } g and > 0 ? g : o.Bits switch { 8 => 64, 4 => 32, _ => SmallestKernelBlock2Bits };

    // The largest divisor of the axis no larger than the group, so that rows need no padding; the group itself when none is near.
    private static int FoldedBlock(long axis, RoundToNearestOptions o)
    {
        var group = o.Bits == 16 ? 0 : o.Group ?? 32;
        if (group == 0 || axis <= group) return checked((int)axis);
        for (var d = group; d > group / 2; d--)
            if (axis % d == 0) return d;
        return group;
    }
}
