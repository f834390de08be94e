using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Benchmarks;

/// <summary>The ONNX model of a <see cref="LeNet"/>: <c>image</c> batch × 1 × 28 × 28 → <c>logits</c> batch × 10.</summary>
internal static class LeNetModel
{
    /// <summary>Writes weights in ONNX's order, channels first.</summary>
    public static ModelProto Of(LeNet net)
    {
        var model = TestModels.OfOpset(13).Input("image", DataType.Float, "batch", 1, 28, 28);
        model.ProducerName = "serverless";
        model.Graph.Name = "lenet";
        Convolution(model, "conv1", "image", net.Layers[0], LeNet.Maps1, 1);
        Convolution(model, "conv2", "pool1", net.Layers[1], LeNet.Maps2, LeNet.Maps1);
        model.With(TestModels.Node("Flatten", ["pool2"], ["features"], ModelEdit.Attribute("axis", 1)));
        FullyConnected(model, "fc1", "features", "fc1", LeNet.Units, net.Layers[2], LeNet.Maps2);
        model.With(TestModels.Node("Relu", ["fc1"], ["relu1"]));
        FullyConnected(model, "fc2", "relu1", "logits", LeNet.Classes, net.Layers[3], 1);
        model.Graph.Output.Add(TestModels.Value("logits", DataType.Float, "batch", LeNet.Classes));
        return model;
    }

    private static void Convolution(ModelProto model, string name, string input, TrainedLayer layer, int maps, int channels)
    {
        const int Side = Windows.Kernel;
        var weights = ChannelsFirst(layer.Weights, maps, channels);
        Parameters(model, name, layer, weights, maps, channels, Side, Side);
        var node = TestModels.Node("Conv", [input, $"{name}.weight", $"{name}.bias"], [name]);
        var pool = TestModels.Node(
            "MaxPool",
            [name],
            [$"pool{name[^1]}"],
            ModelEdit.Attribute("kernel_shape", [2L, 2L]),
            ModelEdit.Attribute("strides", [2L, 2L])
        );
        (node.Name, pool.Name) = ($"/{name}/Conv", $"/pool{name[^1]}/MaxPool");
        model.With(node, pool);
    }

    private static void FullyConnected(
        ModelProto model,
        string name,
        string input,
        string output,
        int units,
        TrainedLayer layer,
        int channels
    )
    {
        Parameters(model, name, layer, ChannelsFirst(layer.Weights, units, channels), units, layer.Weights.Length / units);
        var node = TestModels.Node("Gemm", [input, $"{name}.weight", $"{name}.bias"], [output], ModelEdit.Attribute("transB", 1));
        node.Name = $"/{name}/Gemm";
        model.With(node);
    }

    private static void Parameters(ModelProto model, string name, TrainedLayer layer, float[] weights, params long[] dims) =>
        model
            .Initializer(TestModels.Tensor($"{name}.weight", weights, dims))
            .Initializer(TestModels.Tensor($"{name}.bias", Array.ConvertAll(layer.Bias, b => (float)b), dims[0]));

    // rows × (pixels, channels) → rows × (channels, pixels)
    private static float[] ChannelsFirst(double[] weights, int rows, int channels)
    {
        var (pixels, turned) = (weights.Length / rows / channels, new float[weights.Length]);
        for (var r = 0; r < rows; r++)
        for (var p = 0; p < pixels; p++)
        for (var c = 0; c < channels; c++)
            turned[(r * channels + c) * pixels + p] = (float)weights[(r * pixels + p) * channels + c];
        return turned;
    }
}
