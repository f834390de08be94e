using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Weights that are the same bytes of a file are compressed and stored once, unless the recipe tells them apart.</summary>
public class SharedWeightsTests
{
    private const int Layers = 60;

    [Fact]
    public async Task Weights_of_the_same_bytes_are_compressed_and_published_once()
    {
        using var folder = new Folder();
        var shared = await Compressed.RunAsync(folder, Chain(folder), "version: 1\nsteps:\n- quantize: {method: rtn}\n");
        Assert.Single(shared.Report.Layers);
        Assert.True(shared.Report.Size.After < shared.Report.Size.Before, $"{shared.Report.Size}");
        Assert.True(shared.Report.Fidelity.Cosine > 0.99, $"{shared.Report.Fidelity}");
        var apart = await Compressed.RunAsync(
            folder,
            Chain(folder),
            "version: 1\nsteps:\n- quantize: {method: rtn}\nlayers:\n- match: w0\n  skip: true\n"
        );
        Assert.Equal(Layers, apart.Report.Layers.Count);
    }

    private static ModelProto Chain(Folder folder)
    {
        var weight = Random("w", 64, 64).Select(v => v * 1.2f).ToArray();
        folder.Write("model/w.bin", MemoryMarshal.AsBytes<float>(weight).ToArray());
        var model = OfOpset(13).Input("x0", DataType.Float, 1, 64);
        for (var i = 0; i < Layers; i++)
        {
            var tensor = new TensorProto
            {
                Name = $"w{i}",
                DataType = (int)DataType.Float,
                Dims = { 64, 64 },
            };
            TensorRef.Point(tensor, "w.bin", 0, 16 << 10);
            model.Initializer(tensor).With(Node("MatMul", [$"x{i}", $"w{i}"], [$"m{i}"]), Node("Tanh", [$"m{i}"], [$"x{i + 1}"]));
        }
        return model.Output($"x{Layers}");
    }
}
