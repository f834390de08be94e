using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Forms;

/// <summary>The part of a convolution that one of its factors takes.</summary>
internal static class KernelPart
{
    /// <summary>
    /// Makes a copy of a convolution that of a factor: strides, dilations and padding of the other axes go, and so does automatic padding
    /// where none is left to be padded.
    /// </summary>
    /// <param name="node">The copy; changed.</param>
    /// <param name="factor">The factor.</param>
    public static void Keep(NodeProto node, ProductFactor factor)
    {
        var axes = factor.Dims.Count - 2;
        for (var i = node.Attribute.Count - 1; i >= 0; i--)
        {
            var attribute = node.Attribute[i];
            switch (attribute.Name)
            {
                case "kernel_shape":
                    attribute.Ints.Clear();
                    attribute.Ints.AddRange(factor.Dims.Skip(2));
                    break;
                case "strides" or "dilations" or "pads" when factor.Axes.Count > 0:
                    for (var k = 0; k < attribute.Ints.Count; k++)
                        if (!factor.Axes.Contains(k % axes))
                            attribute.Ints[k] = attribute.Name == "pads" ? 0 : 1;
                    break;
                case "strides" or "dilations" or "pads" or "auto_pad" when factor.Axes.Count == 0:
                case "group":
                    node.Attribute.RemoveAt(i);
                    break;
            }
        }
        if (factor.Groups > 1)
            node.Attribute.Add(ModelEdit.Attribute("group", factor.Groups));
    }
}
