using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Quantization;

/// <summary>The plan of a weight whose codes lie in groups with a scale each.</summary>
internal static class BlockPlan
{
    /// <summary>Plans a weight in the form that suits it (<see cref="CodeForm.Choose"/>).</summary>
    public static LayerPlan Of(Weight weight, LayerShape view, Store store, CodeRequest request)
    {
        var offer = CodeForm.Choose(weight, view, store, request);
        var (form, shape, bits, block, bytes, _, _) = offer;
        var count = shape.Rows * ((shape.Axis + block - 1) / block);
        var parts = BitPacking.Planes(bits).Length * request.Terms;
        var slab = shape.Inner == 1 ? Math.Max(1 << 18, 8 * shape.Axis) : 2L * block * shape.Inner;
        var working = slab * 5 + count * 8 * request.Terms + (shape.Inner == 1 && parts == 1 ? 0 : bytes);
        return new LayerPlan(form.Name, bits, block, bytes, working) { Shape = shape, NodeBytes = offer.NodeBytes };
    }
}
