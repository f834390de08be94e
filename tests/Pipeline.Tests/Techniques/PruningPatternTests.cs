using System.Runtime.InteropServices;
using Serverless.Core;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Recipes;
using Serverless.Core.Reports;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>N:M and blocks, and how sparsity is shared out among layers.</summary>
public class PruningPatternTests
{
    private static readonly string Digits = Path.Combine(RealModels.Digits, "digits.onnx");
    private static readonly string Data = Path.Combine(RealModels.Digits, "data.npz");

    [Theory]
    [InlineData("digits", "magnitude", "2:4")]
    [InlineData("digits", "wanda", "4:8")]
    [InlineData("digits", "sparsegpt", "1:3")]
    [InlineData("digits", "magnitude", "16x1")]
    [InlineData("digits", "wanda", "1x16")]
    [InlineData("digits", "sparsegpt", "8x4")]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "magnitude", "2:4")]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "sparsegpt", "2:4", Explicit = true)]
    [InlineData("ch_ppocr_mobile_v2.0_cls_infer", "sparsegpt", "4x4", Explicit = true)]
    public async Task A_pattern_holds_in_every_layer(string name, string method, string pattern)
    {
        using var folder = new Folder();
        var (file, data) = name == "digits" ? (Digits, Data) : (RealModels.File(name), (string?)null);
        var recipe = $"version: 1\nsteps:\n- prune: {{method: {method}, pattern: \"{pattern}\"}}\n";
        var done = await Compressed.RunAsync(folder, file, recipe, data);
        var model = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File));
        var pruned = done.Report.Layers.Where(l => l.Steps.Count > 0).Select(l => l.Name).ToHashSet();
        Assert.True(pruned.Count > 2);
        foreach (var weight in Weight.Of(model).Where(w => pruned.Contains(w.Name)))
        {
            var (shape, values) = (LayerShape.Of(weight), MemoryMarshal.Cast<byte, float>(weight.Tensor.RawData.Span).ToArray());
            float At(long row, long column) => values[(row / shape.Inner * shape.Axis + column) * shape.Inner + row % shape.Inner];
            if (pattern.Contains(':'))
                CheckGroups(weight.Name, shape, pattern, At);
            else
                CheckBlocks(shape, pattern, At);
        }
        foreach (var left in done.Report.Layers.Where(l => l.Steps.Count == 0 && l.Note is not null))
            Assert.DoesNotContain("no step", left.Note);
    }

    private static void CheckGroups(string name, LayerShape shape, string pattern, Func<long, long, float> at)
    {
        var (n, m) = (int.Parse(pattern.Split(':')[0]), int.Parse(pattern.Split(':')[1]));
        for (long row = 0; row < shape.Rows; row++)
        for (long k = 0; k < shape.Axis; k += m)
        {
            var group = (int)Math.Min(m, shape.Axis - k);
            var kept = Enumerable.Range(0, group).Count(i => at(row, k + i) != 0);
            Assert.True(kept <= (group * n + m - 1) / m, $"{name} row {row}, inputs from {k}: {kept} kept");
        }
    }

    private static void CheckBlocks(LayerShape shape, string pattern, Func<long, long, float> at)
    {
        var (r, c) = (int.Parse(pattern.Split('x')[0]), int.Parse(pattern.Split('x')[1]));
        long zero = 0;
        for (long row = 0; row < shape.Rows; row += r)
        for (long k = 0; k < shape.Axis; k += c)
        {
            var (height, width) = (Math.Min(r, shape.Rows - row), Math.Min(c, shape.Axis - k));
            var zeros = 0L;
            for (var i = 0; i < height * width; i++)
                zeros += at(row + i / width, k + i % width) == 0 ? 1 : 0;
            // A weight may be zero without having been pruned.
            if (zeros == height * width)
                zero += zeros;
        }
        Assert.InRange(zero, 0.5 * shape.Elements - r * c - shape.Elements / 50.0, 0.5 * shape.Elements);
    }

    [Fact]
    public async Task One_threshold_for_blocks_of_the_model_meets_the_sparsity()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Digits, "version: 1\nsteps:\n- prune: {pattern: 1x4, sparsity: 0.4, scope: global}\n");
        var layers = done.Report.Layers.Where(l => l.Steps.Count > 0).ToList();
        Assert.Equal(0.4, Sparsity(layers), 0.01);
        Assert.True(layers.Max(l => l.Sparsity) - layers.Min(l => l.Sparsity) > 0.1);
    }

    [Theory]
    [InlineData("magnitude", "none")]
    [InlineData("wanda", "none")]
    [InlineData("sparsegpt", "1x4")]
    public async Task Erk_meets_the_sparsity_of_all_layers_together_and_keeps_small_ones(string method, string pattern)
    {
        using var folder = new Folder();
        var recipe = $"version: 1\nsteps:\n- prune: {{method: {method}, pattern: {pattern}, sparsity: 0.6, scope: erk}}\n";
        var done = await Compressed.RunAsync(folder, Digits, recipe, Data);
        var layers = done.Report.Layers.Where(l => l.Steps.Count > 0).ToList();
        Assert.Equal(0.6, Sparsity(layers), 0.01);
        // Density is in proportion to the sum of the dimensions over their product, and 1 at most.
        double Density(Core.Reports.ReportLayer l) => 1 - l.Sparsity;
        double Ratio(Core.Reports.ReportLayer l) => l.Shape.Sum() / l.Shape.Aggregate(1.0, (a, b) => a * b);
        var (large, small) = (layers.MinBy(Ratio)!, layers.MaxBy(Ratio)!);
        Assert.Equal(Math.Min(1, Density(large) * Ratio(small) / Ratio(large)), Density(small), 0.03);
    }

    [Theory]
    [InlineData("magnitude, sparsity: 0.6")]
    [InlineData("wanda, sparsity: 0.6")]
    [InlineData("sparsegpt, sparsity: 0.7")]
    [InlineData("sparsegpt, pattern: \"4:8\"")]
    public async Task Measured_sparsities_are_nearer_than_one_for_all_at_equal_bytes(string options)
    {
        using var folder = new Folder();
        async Task<(double Error, long Bytes)> RunAsync(string scope)
        {
            var recipe = $"version: 1\nsteps:\n- prune: {{method: {options}, scope: {scope}}}\n";
            var done = await Compressed.RunAsync(folder, Digits, recipe, Data);
            var bytes = done.Report.Layers.Where(l => l.Steps.Count > 0).Sum(Bytes);
            return (await done.ErrorAsync(Digits, Data, 200), bytes);
        }
        var (uniform, measured) = (await RunAsync("layer"), await RunAsync("measured"));
        Assert.True(measured.Error < uniform.Error, $"{measured} {uniform}");
        Assert.InRange(measured.Bytes, 0, 1.01 * uniform.Bytes);

        static long Bytes(Core.Reports.ReportLayer l)
        {
            var elements = l.Shape.Aggregate(1L, (a, b) => a * b);
            return Math.Min(4 * elements, SparseBytes.Estimate(elements, 1 - l.Sparsity, 32, Store.Balanced)!.Value);
        }
    }

    [Fact]
    public async Task Measured_sparsities_are_chosen_together_with_widths()
    {
        using var folder = new Folder();
        const string Recipe =
            "version: 1\nsteps:\n- prune: {method: wanda, sparsity: 0.3, scope: measured}\n- quantize: {method: rtn, bits: mixed}\n"
            + "layers:\n- {match: fc1.weight, skip: true}\n";
        var done = await Compressed.RunAsync(folder, Digits, Recipe, Data);
        var layers = done.Report.Layers.Where(l => l.Steps.Count == 2).ToList();
        Assert.True(layers.Select(l => Math.Round(l.Sparsity, 1)).Distinct().Count() > 1);
        Assert.True(done.Report.Widths!.Tried.Count > 1);
        Assert.InRange(done.Report.Size.Ratio, 0.85, 0.89);
    }

    [Theory]
    [InlineData("pattern: \"2:4\"", "not pruned 2:4: its outputs have 3 inputs")]
    [InlineData("pattern: 64x64, sparsity: 0.3", "not pruned 64x64: it is one block, of 40 outputs and 3 inputs")]
    public async Task A_layer_that_cannot_have_the_pattern_is_left_with_a_reason(string options, string why)
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 4, 3).Weight("w", 3, 40).With(Node("MatMul", ["x", "w"], ["y"])).Output("y");
        var done = await Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- prune: {{{options}}}\n");
        Assert.Equal(why, Assert.Single(done.Report.Layers).Note);
    }

    [Theory]
    [InlineData("pattern: \"4:2\"", "of N:M, N is less than M")]
    [InlineData("pattern: \"2:40\"", "M is 32 at most")]
    [InlineData("pattern: 1x2", "blocks of fewer than 4 weights")]
    [InlineData("pattern: 2to4", "takes none, N:M with N < M up to 32")]
    [InlineData("pattern: \"2:4\", sparsity: 0.6", "is a sparsity of 0.5: leave 'sparsity' out")]
    [InlineData("pattern: \"2:4\", scope: erk", "is the same sparsity in every layer")]
    [InlineData("method: wanda, scope: global", "scores of layers with different inputs do not compare")]
    [InlineData("method: sparsegpt, scope: global", "scores of layers with different inputs do not compare")]
    [InlineData("rounds: 3", "make of the model what one round makes of it")]
    [InlineData("method: wanda, scope: measured, rounds: 2", "chooses sparsities once")]
    public void Options_without_sense_are_refused(string options, string why) =>
        Assert.Contains(
            why,
            Assert.Throws<BadInputException>(() => RecipeReader.Read($"version: 1\nsteps:\n- prune: {{{options}}}\n", "r")).Message
        );

    [Fact]
    public void Rounds_are_steps_of_rising_sparsity_that_read_back_as_they_are()
    {
        var recipe = RecipeReader.Read("version: 1\nsteps:\n- prune: {method: wanda, sparsity: 0.8, rounds: 4}\n", "r");
        double[] Sparsities(Recipe r) =>
            [.. r.Steps.Where(s => s.Step == "prune").Select(s => s.Options.GetProperty("sparsity").GetDouble())];
        // 0.8 · (1 − (1 − t / 4)³).
        Assert.Equal([0.4625, 0.7, 0.7875, 0.8], Sparsities(recipe));
        Assert.Equal(Sparsities(recipe), Sparsities(RecipeReader.Read(RecipeWriter.Write(recipe), "r")));
        Assert.Equal(4, StepSequence.Stages(recipe.Steps).Count);
        var groups = RecipeReader.Read("version: 1\nsteps:\n- prune: {method: wanda, pattern: 4:8, rounds: 3}\n", "r");
        string[] Patterns(Recipe r) =>
            [.. r.Steps.Where(s => s.Step == "prune").Select(s => s.Options.GetProperty("pattern").GetString()!)];
        Assert.Equal(["5:8", "4:8"], Patterns(groups));
        Assert.Equal(Patterns(groups), Patterns(RecipeReader.Read(RecipeWriter.Write(groups), "r")));
    }

    private static double Sparsity(IReadOnlyList<Core.Reports.ReportLayer> layers) =>
        layers.Sum(l => l.Sparsity * Elements(l)) / layers.Sum(Elements);

    private static double Elements(Core.Reports.ReportLayer layer) => layer.Shape.Aggregate(1.0, (a, b) => a * b);

    [Theory]
    [InlineData("prune: {scope: measured, sparsity: 0.5}")]
    [InlineData("prune: {method: wanda, scope: measured, sparsity: 0.5}")]
    [InlineData("quantize: {bits: mixed, protect: 0}")]
    public async Task Layers_that_no_sample_reaches_are_not_treated_more_strongly_than_those_that_all_do(string step)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, BranchModel.Create(), $"version: 1\nsteps:\n- {step}\n");
        var layers = done.Report.Layers.Where(l => l.Steps.Count > 0).ToList();
        var (taken, other) = (Of("taken_"), Of("other_"));
        Assert.Equal((2, 2), (taken.Count, other.Count));
        Assert.True(other.Max(l => l.Sparsity) <= taken.Max(l => l.Sparsity) + 0.1, string.Join('\n', layers));
        Assert.True(other.Min(l => l.Bits) >= taken.Min(l => l.Bits), string.Join('\n', layers));

        List<ReportLayer> Of(string name) => [.. layers.Where(l => l.Name.Contains(name, StringComparison.Ordinal))];
    }
}
