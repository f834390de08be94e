using System.ComponentModel.DataAnnotations;
using System.Runtime.InteropServices;
using System.Text.Json;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Graph steps that run what they may make of the model, on samples that the result is not compared on.</summary>
public class GraphTrialTests
{
    static GraphTrialTests() => Technique.Register(typeof(GraphTrialTests).Assembly);

    private static ModelProto Net =>
        OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .Weight("w", 64, 48)
            .With(Node("MatMul", ["x", "w"], ["s"]), Node("Softmax", ["s"], ["y"], ModelEdit.Attribute("axis", 1)))
            .Output("y");

    [Theory]
    [InlineData(true, 10)]
    [InlineData(true, 1)]
    [InlineData(false, 0)]
    public async Task A_step_sees_what_its_change_makes_of_the_outputs(bool data, int count)
    {
        using var folder = new Folder();
        var path = Path.Combine(folder.Path, "data.npz");
        if (data)
            Npz.Write(path, ("x", "<f4", [count, 64], MemoryMarshal.AsBytes<float>(Random("x", count, 64)).ToArray()));
        var recipe = "version: 1\nbudget: {maxAccuracyLoss: 0.25}\nsteps:\n- stretch: {by: 0.5, samples: 3}\n";
        var done = await Compressed.RunAsync(folder, Net, recipe, data ? path : null);
        var seen = done.Report.Notes["stretch"].Deserialize<Stretched>(Json)!;
        Assert.Equal(data ? Math.Max(1, Math.Min(3, count / 2)) : 32, seen.Samples);
        Assert.Equal(data, seen.IsData);
        Assert.Equal(0.25, seen.MostLoss);
        // The scores are one and a half times what they were, whatever the samples are.
        Assert.Equal(0.5, seen.Kept!.Scores!.Value, 1e-5);
        Assert.Equal(0.5, seen.Inline!.Scores!.Value, 1e-5);
        Assert.Equal(seen.Kept.RelativeError, seen.Inline.RelativeError, 1e-9);
        Assert.Equal(0, seen.Same!.RelativeError);
        Assert.Equal(1, seen.Same.Cosine!.Value, 1e-6);
        // Without a Softmax there is no such score.
        Assert.Null(seen.Bare!.Scores);
        Assert.InRange(seen.Kept.RelativeError, 1e-3, 0.5);
        Assert.Equal((data ? "data" : "synthetic", count != 1), (done.Report.Calibration!.Source, done.Report.Calibration.HeldOut));
        var stored = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.Single().RawData;
        Assert.Equal(Random("w", 64, 48).Select(v => v * 1.5f), MemoryMarshal.Cast<byte, float>(stored.Span).ToArray());
    }

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web);

    /// <summary>What a step saw.</summary>
    public sealed record Stretched(
        int Samples,
        bool IsData,
        double? MostLoss,
        OutputChange? Kept,
        OutputChange? Inline,
        OutputChange? Same,
        OutputChange? Bare
    );

    /// <summary>Options of <see cref="Stretch"/>.</summary>
    public sealed record StretchOptions
    {
        /// <summary>How much longer the weights become (default 0.1).</summary>
        [Range(0.0, 10)]
        public double By { get; init; } = 0.1;

        /// <summary>Samples (default 8).</summary>
        [Range(1, 1000)]
        public int Samples { get; init; } = 8;
    }

    /// <summary>Multiplies every weight, and notes what that makes of the outputs.</summary>
    public sealed class Stretch : GraphTechnique<StretchOptions>
    {
        public override string Step => "stretch";

        public override string About => "Weights become longer.";

        protected override GraphNeeds Needs(ModelProto model, IReadOnlyList<PlannedLayer> layers, StretchOptions options) =>
            GraphNeeds.ToTry(options.Samples);

        protected override async Task ApplyAsync(GraphWork work, StretchOptions options, CancellationToken cancellation)
        {
            work.RunsModel();
            var same = await work.TryAsync(work.Model, cancellation);
            var tensor = Weight.Of(work.Model).Single().Tensor;
            var floats = MemoryMarshal.Cast<byte, float>((await work.ReadAsync(tensor, cancellation)).Span).ToArray();
            var longer = MemoryMarshal.AsBytes(Array.ConvertAll(floats, v => v * (float)(1 + options.By)).AsSpan()).ToArray();
            var inline = work.Model.Clone();
            inline.Graph.Initializer[0] = Tensor(tensor.Name, DataType.Float, longer, [.. tensor.Dims]);
            var tried = await work.TryAsync(inline, cancellation);
            await work.KeepAsync(tensor, longer, cancellation);
            var kept = await work.TryAsync(work.Model, cancellation);
            var bare = work.Model.Clone();
            bare.Graph.Node[0].Output[0] = bare.Graph.Node[1].Output[0];
            bare.Graph.Node.RemoveAt(1);
            var read = (await work.Trials!.ReadAsync(int.MaxValue, cancellation)).Count();
            Assert.Equal(work.Trials.Samples, read);
            Assert.True(File.Exists(Path.Combine(await work.Trials.FolderAsync(cancellation), ModelWriter.ModelName)));
            work.Note(
                "stretch",
                new Stretched(read, work.Trials.IsData, work.MostLoss, kept, tried, same, await work.TryAsync(bare, cancellation))
            );
        }
    }
}
