using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>What is folded into a convolution, against Jacob et al. 2018, section 3.2, in double precision.</summary>
public class SimplifyTests
{
    private const int Channels = 12;
    private const double Epsilon = 0.003;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_batch_normalization_becomes_factors_and_offsets_of_the_convolution(bool biased)
    {
        using var folder = new Folder();
        var variance = Random("v", Channels).Select(v => 0.1f + Math.Abs(v)).ToArray();
        var model = OfOpset(15)
            .Input("x", DataType.Float, 1, 4, 6, 6)
            .Weight("w", Channels, 4, 3, 3)
            .Weight("b", Channels)
            .Weight("g", Channels)
            .Weight("o", Channels)
            .Weight("m", Channels)
            .Initializer(Tensor("v", variance, Channels))
            .With(
                Node("Conv", biased ? ["x", "w", "b"] : ["x", "w"], ["c"]),
                Node("BatchNormalization", ["c", "g", "o", "m", "v"], ["y"], ModelEdit.Attribute("epsilon", (float)Epsilon))
            )
            .Output("y");
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- simplify: {names: keep}\n- quantize: {}\nlayers:\n- {match: \"*\", skip: true}\n"
        );
        var graph = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
        var conv = Assert.Single(graph.Node);
        float[] Of(string name) => MemoryMarshal.Cast<byte, float>(graph.Initializer.Single(t => t.Name == name).RawData.Span).ToArray();
        var (folded, bias) = (Of(conv.Input[1]), Of(conv.Input[2]));
        var weights = Random("w", Channels, 4, 3, 3);
        for (var c = 0; c < Channels; c++)
        {
            var factor = Random("g", Channels)[c] / Math.Sqrt(variance[c] + Epsilon);
            var offset = Random("o", Channels)[c] + ((biased ? Random("b", Channels)[c] : 0) - Random("m", Channels)[c]) * factor;
            Assert.Equal(offset, bias[c], 1e-6);
            for (var i = 0; i < 36; i++)
                Assert.Equal(weights[c * 36 + i] * factor, folded[c * 36 + i], 1e-6);
        }
    }
}
