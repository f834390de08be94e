using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>A model run in parts has in each the constants that its layers decode, and counts what decoding them takes.</summary>
public class SegmentTests
{
    [Theory]
    [InlineData("prune: {sparsity: 0.6}")]
    [InlineData("prune: {sparsity: 0.9}\n- quantize: {bits: 4, protect: 0}")]
    [InlineData("quantize: {bits: 5, protect: 0}\nstore: small")]
    public async Task Decoding_is_in_the_part_of_its_layer(string steps)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Path.Combine(RealModels.Digits, "digits.onnx"), $"version: 1\nsteps:\n- {steps}\n");
        var (path, name) = (Path.GetDirectoryName(done.File)!, Path.GetFileName(done.File));
        var index = await ModelIndexer.IndexAsync(
            new FolderStore(new Dictionary<string, string> { ["drop"] = path }),
            $"drop/{name}",
            CancellationToken.None
        );
        var weights = Weight.Of(index.Model).Select(w => w.Value).ToHashSet(StringComparer.Ordinal);

        var parts = Segment.Of(index.Model.Clone(), 100_000);
        Assert.True(parts.Count > 1);
        Assert.All(parts.SelectMany(p => p.Inputs), i => Assert.DoesNotContain(i, weights));
        var (whole, cut) = (new ModelRunner(path, index), new ModelRunner(path, index, wholeLimit: 0, segmentLimit: 100_000));
        using (whole)
        using (cut)
        {
            var samples = new[] { SyntheticInputs.Make(index.Model, InputSpec.Of(index.Model, name), 0, 0, name) };
            var fidelity = new Fidelity();
            var (expected, actual) = (whole.Run(samples, CancellationToken.None)[0], cut.Run(samples, CancellationToken.None)[0]);
            fidelity.Add([.. expected.Outputs.Keys], expected.Outputs, actual.Outputs, null);
            Assert.True(fidelity.RelativeError < 1e-5);
        }
    }

    // Of a bitmap of floats: bits, their sums, places and values, 22 bytes a weight in all; a part whose stored bytes are fewer than its
    // limit is cut all the same.
    [Fact]
    public async Task What_decoding_takes_is_counted()
    {
        using var folder = new Folder();
        var model = TestModels
            .OfOpset(13)
            .Input("x", DataType.Float, 1, 256)
            .Weight("a", 256, 256)
            .Weight("b", 256, 256)
            .With(TestModels.Node("MatMul", ["x", "a"], ["h"]), TestModels.Node("MatMul", ["h", "b"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- prune: {sparsity: 0.5}\n");
        var compressed = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File));
        Assert.Equal(2, done.Report.Layers.Count(l => l.Form == FormName.Bitmap));

        Assert.Equal(2, Segment.Of(model.Clone(), 300_000).Count);
        Assert.Single(Segment.Of(model.Clone(), 600_000));
        Assert.Equal(2, Segment.Of(compressed.Clone(), 1_500_000).Count);
        Assert.Single(Segment.Of(compressed.Clone(), 2 * (SparseForm.BytesWhileLoading + 6) * 256 * 256));
        var order = new CopiedNodes(compressed.Graph, new HashSet<string>());
        var bytes = new FoldedBytes(compressed, order);
        var each = (double)Enumerable.Range(0, order.Count).Sum(bytes.Of) / (2 * 256 * 256);
        Assert.InRange(each, SparseForm.BytesWhileLoading - 1, SparseForm.BytesWhileLoading + 1);
    }

    [Theory]
    [InlineData(32 << 20, Store.Balanced, true)]
    [InlineData((32 << 20) + 1, Store.Balanced, false)]
    [InlineData((32 << 20) + 1, Store.Fast, false)]
    [InlineData((32 << 20) + 1, Store.Small, true)]
    public void Zeros_of_layers_that_would_take_much_memory_to_load_are_kept(long elements, Store store, bool leftOut) =>
        Assert.Equal(leftOut, SparseBytes.Estimate(elements, 0.5, 32, store) is not null);
}
