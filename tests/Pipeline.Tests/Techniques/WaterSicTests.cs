using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests.Techniques;

/// <summary>Rounding for codes at their entropy: the entropy asked for, and less error than GPTQ in no more bytes.</summary>
public class WaterSicTests
{
    private const int Inputs = 192,
        Outputs = 512,
        Rows = 2048;

    [Theory]
    [InlineData(1.5)]
    [InlineData(2.5)]
    [InlineData(4)]
    public async Task Codes_have_the_entropy_that_was_asked_for(double bits)
    {
        using var folder = new Folder();
        var (model, data) = Correlated(folder);
        var done = await Compressed.RunAsync(folder, model, Recipe($"method: watersic, bits: {bits}, protect: 0"), data);
        Assert.Null(done.Report.Layers.Single().Fallback);
        var store = new FolderStore(new Dictionary<string, string> { ["m"] = Path.GetDirectoryName(done.File)!, ["o"] = folder.Path });
        await UnpackedModel.WriteAsync(store, "m/model.onnx", "o/u", CancellationToken.None);
        var plain = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(Path.Combine(folder.Path, "u", "model.onnx")));
        var codes = plain
            .Graph.Initializer.Where(t => t.DataType is (int)DataType.Int8 or (int)DataType.Uint8)
            .MaxBy(t => t.RawData.Length)!;
        // Four-bit codes lie two to a byte.
        var symbols =
            codes.DataType == (int)DataType.Int8
                ? codes.RawData.ToByteArray()
                : [.. codes.RawData.SelectMany(b => new[] { (byte)(b & 15), (byte)(b >> 4) })];
        Assert.Equal(Inputs * Outputs, symbols.Length);
        Assert.Equal(bits, FrequencyTable.Entropy(FrequencyTable.Count(symbols)) / symbols.Length, 0.1);
    }

    [Fact]
    public async Task Less_error_in_fewer_bytes_than_GPTQ()
    {
        using var folder = new Folder();
        var (model, data) = Correlated(folder);
        var gptq = await Compressed.RunAsync(folder, model.Clone(), Recipe("method: gptq, bits: 4, protect: 0"), data);
        var water = await Compressed.RunAsync(folder, model.Clone(), Recipe("method: watersic, bits: 3.4, protect: 0"), data);
        Assert.True(water.Report.Size.After < 0.9 * gptq.Report.Size.After, $"{water.Report.Size.After} of {gptq.Report.Size.After}");
        var (error, before) = (water.Report.Fidelity.RelativeError, gptq.Report.Fidelity.RelativeError);
        Assert.True(error < before, $"{error} of {before}");
    }

    [Fact]
    public async Task Less_error_in_fewer_bytes_than_GPTQ_on_digits()
    {
        using var folder = new Folder();
        var model = Path.Combine(RealModels.Repository, "tests", "models", "digits", "digits.onnx");
        var data = Path.Combine(RealModels.Repository, "tests", "models", "digits", "data.npz");
        var gptq = await Compressed.RunAsync(folder, model, Recipe("method: gptq, bits: 3"), data);
        var water = await Compressed.RunAsync(folder, model, Recipe("method: watersic, bits: 3.2"), data);
        Assert.True(water.Report.Size.After < gptq.Report.Size.After, $"{water.Report.Size.After} of {gptq.Report.Size.After}");
        var (error, before) = (water.Report.Fidelity.RelativeError, gptq.Report.Fidelity.RelativeError);
        Assert.True(error < before, $"{error} of {before}");
    }

    [Theory]
    [InlineData("ConvTranspose", new long[] { 1, 32, 5, 5 }, new long[] { 32, 16, 3, 3 })]
    [InlineData("MatMul", new long[] { 1, 4, 64 }, new long[] { 1, 64, 64 })]
    [InlineData("MatMul", new long[] { 1, 4, 64 }, new long[] { 1, 64, 48 })]
    [InlineData("LSTM", new long[] { 5, 1, 32 }, new long[] { 2, 128, 32 })]
    public async Task Factors_of_rows_lie_along_the_axes_of_any_weight(string op, long[] input, long[] weight)
    {
        using var folder = new Folder();
        var model = OfOpset(13).Input("x", DataType.Float, [.. input.Cast<object>()]).Weight("w", weight);
        var direction = new AttributeProto
        {
            Name = "direction",
            Type = AttributeProto.Types.AttributeType.String,
            S = Google.Protobuf.ByteString.CopyFromUtf8("bidirectional"),
        };
        if (op == "LSTM")
            model.Weight("r", 2, 128, 32).With(Node(op, ["x", "w", "r"], ["y"], ModelEdit.Attribute("hidden_size", 32L), direction));
        else
            model.With(Node(op, ["x", "w"], ["y"]));
        var done = await Compressed.RunAsync(folder, model.Output("y"), Recipe("method: watersic, bits: 5, protect: 0"));
        Assert.Contains(done.Report.Layers, l => l is { Name: "w", Form: "Folded" });
        Assert.InRange(done.Report.Fidelity.RelativeError!.Value, 1e-4, 0.1);
    }

    [Fact]
    public async Task Without_a_decoder_it_is_GPTQ()
    {
        using var folder = new Folder();
        var (model, data) = Correlated(folder);
        var done = await Compressed.RunAsync(
            folder,
            model,
            "version: 1\nsteps:\n- quantize: {method: watersic, bits: 2.5, protect: 0}\n",
            data
        );
        Assert.Equal(3, done.Report.Layers.Single().Bits);
        Assert.Contains("store: small", done.Report.Layers.Single().Fallback!);
    }

    private static string Recipe(string quantize) => $"version: 1\nstore: small\nsteps:\n- quantize: {{{quantize}}}\n";

    // Inputs of very different energy, each a mixture of its neighbours.
    private static (ModelProto Model, string Data) Correlated(Folder folder)
    {
        var values = Random("x", Rows, Inputs);
        for (var r = 0; r < Rows; r++)
        for (var k = 1; k < Inputs; k++)
            values[r * Inputs + k] = (float)(0.7 * values[r * Inputs + k - 1] + values[r * Inputs + k] * Math.Pow(0.98, k));
        var data = Path.Combine(folder.Path, "data.npz");
        Npz.Write(data, ("x", "<f4", [Rows, Inputs], MemoryMarshal.AsBytes<float>(values).ToArray()));
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1, Inputs)
            .Weight("w", Inputs, Outputs)
            .With(Node("MatMul", ["x", "w"], ["y"]))
            .Output("y");
        return (model, data);
    }
}
