using System.Runtime.InteropServices;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Pruning.Structured;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>Structured pruning: matrices get smaller, what is left makes up for what goes.</summary>
public class ShrinkTests
{
    private static readonly string[] Methods = ["l1", "l2", "median", "bn", "activation", "obs"];

    public static TheoryData<string> All => [.. Methods];

    [Theory]
    [MemberData(nameof(All))]
    public async Task Units_go_from_all_matrices_and_the_ratio_of_multiply_accumulates_is_met(string method)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(
            folder,
            Mlp(17),
            $"version: 1\nsteps:\n- shrink: {{method: {method}, ratio: 0.5, damping: 0.001}}\n"
        );
        Assert.InRange(done.Report.MultiplyAccumulates!.Ratio, 0.4, 0.5);
        Assert.True(done.Report.Size.Ratio < 0.56);
        var graph = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
        var (a, b) = (graph.Initializer.Single(t => t.Name == "a"), graph.Initializer.Single(t => t.Name == "b"));
        Assert.Equal(a.Dims[1], b.Dims[0]);
        Assert.Equal([a.Dims[1]], graph.Initializer.Single(t => t.Name == "c").Dims);
        Assert.Equal(0, a.Dims[1] % 8);
        foreach (var layer in done.Report.Layers.Where(l => l.Name is "a" or "b" or "c"))
        {
            Assert.Equal([$"shrink: {method}"], layer.Steps);
            Assert.True(layer.BytesAfter < layer.BytesBefore);
        }
        var errors = Errors(done);
        Assert.True(errors.Refitted < 0.75 * errors.Cut && errors.Staged <= 1.001 * errors.Refitted, $"{method}: {errors}");
        // Units 64 to 127 are those before them again, which the weights alone do not tell: one of each two can take the other's part.
        if (method == "obs")
            Assert.True(done.Report.Fidelity.RelativeError < 0.02, $"{errors} {done.Report.Fidelity.RelativeError}");
    }

    [Fact]
    public async Task The_surgeon_beats_the_norms_at_equal_size()
    {
        using var folder = new Folder();
        var error = new Dictionary<string, double>();
        foreach (var method in Methods)
        {
            var done = await Compressed.RunAsync(
                folder,
                Path.Combine(RealModels.Digits, "digits.onnx"),
                $"version: 1\nsteps:\n- shrink: {{method: {method}, ratio: 0.5, scope: group}}\n",
                Path.Combine(RealModels.Digits, "data.npz")
            );
            error[method] = done.Report.Fidelity.RelativeError!.Value;
        }
        Assert.True(error["obs"] < error["l2"] && error["obs"] < error["l1"] && error["obs"] < error["median"], string.Join(' ', error));
        Assert.True(error["obs"] < 0.2, string.Join(' ', error));
    }

    [Fact]
    public async Task Without_refit_weights_stay_what_they_were()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(
            folder,
            Mlp(17),
            "version: 1\nsteps:\n- shrink: {method: l2, ratio: 0.5, scope: group, refit: false}\n"
        );
        var graph = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
        var before = Random("b", 128, 24);
        var rows = Values(graph, "b").Chunk(24).ToList();
        Assert.Equal(64, rows.Count);
        Assert.All(rows, r => Assert.Contains(before.Chunk(24), b => b.SequenceEqual(r)));
        Assert.Null(Errors(done).Refitted);
    }

    [Fact]
    public async Task What_cannot_go_is_named_with_the_reason()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 2, 16, 32)
            .Weight("a", 32, 64)
            .Weight("s", 64)
            .Weight("t", 64)
            .Weight("b", 64, 16)
            .With(Node("MatMul", ["x", "a"], ["h"]), Node("LayerNormalization", ["h", "s", "t"], ["n"]), Node("MatMul", ["n", "b"], ["y"]))
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- shrink: {ratio: 0.5}\n");
        Assert.Equal(1, done.Report.Size.Ratio, 0.05);
        var left = done.Report.Notes["structureLeft"].EnumerateArray().Select(l => l.GetProperty("reason").GetString()).ToList();
        Assert.Contains(left, r => r!.Contains("LayerNormalization", StringComparison.Ordinal));
        Assert.Contains("no group", done.Report.Notes["structure"].GetProperty("note").GetString());
    }

    [Fact]
    public async Task Chains_with_pruning_and_quantization_are_smaller_than_either()
    {
        using var folder = new Folder();
        var sizes = new List<double>();
        foreach (var steps in new[] { "shrink: {ratio: 0.4}", "prune: {sparsity: 0.5}", "quantize: {bits: 8}" })
            sizes.Add(await SizeAsync($"- {steps}\n"));
        var all = await SizeAsync("- shrink: {ratio: 0.4}\n- prune: {sparsity: 0.5}\n- quantize: {bits: 8}\n");
        Assert.True(all < 0.6 * sizes.Min(), $"{string.Join(' ', sizes)} {all}");

        async Task<double> SizeAsync(string steps) =>
            (
                await Compressed.RunAsync(
                    folder,
                    Path.Combine(RealModels.Digits, "digits.onnx"),
                    $"version: 1\nsteps:\n{steps}",
                    Path.Combine(RealModels.Digits, "data.npz")
                )
            )
                .Report
                .Size
                .Ratio;
    }

    [Fact]
    public async Task A_budget_of_multiply_accumulates_is_the_ratio_where_none_is_given()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Mlp(13), "version: 1\nbudget: {maxMacRatio: 0.7}\nsteps:\n- shrink: {}\n");
        Assert.InRange(done.Report.MultiplyAccumulates!.Ratio, 0.6, 0.7);
        Assert.True(done.Report.Budget!.Met);
    }

    [Fact]
    public async Task A_ratio_out_of_reach_is_told()
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Mlp(13), "version: 1\nsteps:\n- shrink: {ratio: 0.9, multiple: 64}\n");
        Assert.Equal(0.5, done.Report.MultiplyAccumulates!.Ratio, 3);
        Assert.Contains(
            "'shrink': 50 % of the multiply-accumulates are left, not 10 %: no further units that count may go.",
            done.Report.Warnings
        );
    }

    [Fact]
    public async Task A_weight_that_a_rule_skips_stays_as_it_is()
    {
        using var folder = new Folder();
        var recipe = "version: 1\nsteps:\n- shrink: {ratio: 0.5}\nlayers:\n- {match: b, skip: true}\n";
        var done = await Compressed.RunAsync(folder, Mlp(13), recipe);
        var graph = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
        Assert.Equal(Random("b", 128, 24), Values(graph, "b"));
        Assert.Contains(Left(done), l => l.Reason == "'b' is skipped by the recipe ('b')");
        Assert.Contains(done.Report.Warnings, w => w.StartsWith("'shrink': no group of units may be cut", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("measured")]
    [InlineData("group")]
    public async Task What_no_sample_reaches_stays(string scope)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(
            folder,
            BranchModel.Create(),
            $"version: 1\nsteps:\n- shrink: {{ratio: 0.3, method: l2, scope: {scope}}}\n"
        );
        var layers = done.Report.Layers.ToDictionary(l => l.Name.Split('/')[^1]);
        Assert.True(layers["taken_a"].BytesAfter < layers["taken_a"].BytesBefore);
        Assert.Equal(layers["other_a"].BytesBefore, layers["other_a"].BytesAfter);
        Assert.Equal(
            scope == "measured",
            done.Report.Warnings.Any(w => w.EndsWith("of an If the branch that takes most counts.", StringComparison.Ordinal))
        );
        Assert.Contains(Left(done), l => l is { Name: "other_a", Reason: "no sample takes the branch that it is in" });
    }

    // FastGelu(x, b) is Gelu(x + b) (onnxruntime, ContribOperators.md).
    [Theory]
    [InlineData("FastGelu")]
    [InlineData("BiasGelu")]
    public async Task A_bias_within_an_activation_goes_with_its_units(string op)
    {
        using var folder = new Folder();
        var model = OfOpset(17, "com.microsoft")
            .Input("x", DataType.Float, 8, 48)
            .Weight("a", 48, 128)
            .Weight("c", 128)
            .Weight("b", 128, 24)
            .With(
                Node("MatMul", ["x", "a"], ["h"]),
                ModelEdit.Node($"com.microsoft:{op}", ["h", "c"], ["r"]),
                Node("MatMul", ["r", "b"], ["y"])
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model, "version: 1\nsteps:\n- shrink: {ratio: 0.5}\n");
        Assert.Equal([64L], done.Report.Layers.Single(l => l.Name == "c").Shape);
    }

    [Fact]
    public async Task Float16_layers_are_refitted_too()
    {
        using var folder = new Folder();
        var model = Mlp(17);
        foreach (var tensor in model.Graph.Initializer)
        {
            var floats = MemoryMarshal.Cast<byte, float>(tensor.RawData.Span).ToArray();
            (tensor.DataType, tensor.RawData) = (
                (int)DataType.Float16,
                Google.Protobuf.ByteString.CopyFrom(MemoryMarshal.AsBytes<Half>(Array.ConvertAll(floats, v => (Half)v)))
            );
        }
        foreach (var value in model.Graph.Input.Concat(model.Graph.Output))
            value.Type.TensorType.ElemType = (int)DataType.Float16;
        var recipe = "version: 1\nsteps:\n- shrink: {ratio: 0.5, damping: 0.001}\n";
        var errors = Errors(await Compressed.RunAsync(folder, model, recipe));
        Assert.True(errors.Refitted < 0.75 * errors.Cut && errors.Staged <= 1.01 * errors.Refitted, errors.ToString());
    }

    // Nodes of one branch are those of the other in name and all else; a number of each changes with its units.
    [Theory]
    [InlineData(9)]
    [InlineData(13)]
    public async Task Branches_that_are_alike_shrink_each_by_itself(int opset)
    {
        using var folder = new Folder();
        var model = BranchModel.Create(opset);
        foreach (var branch in model.Graph.Node.Single(n => n.OpType == "If").Attribute.Select(a => a.G))
        {
            branch.Initializer.Clear();
            branch.Initializer.AddRange([
                Tensor("a", Random("a", 48, 96), 48, 96),
                Tensor("b", Random("b", 96, 48), 96, 48),
                Tensor("to", DataType.Int64, MemoryMarshal.AsBytes<long>([6, 1, 96]), 3),
                Tensor("back", DataType.Int64, MemoryMarshal.AsBytes<long>([6, 48]), 2),
            ]);
            branch.Node.Clear();
            branch.Node.AddRange([
                Node("MatMul", ["x", "a"], ["h"]),
                Node("Reshape", ["h", "to"], ["s"]),
                Node("Relu", ["s"], ["r"]),
                Node("MatMul", ["r", "b"], ["p"]),
                Node("Reshape", ["p", "back"], ["o"]),
            ]);
            branch.Output[0].Name = "o";
        }
        var data = Path.Combine(folder.Path, "data.npz");
        // Some samples take one branch, some the other.
        var rows = Random("rows", 32 * 6, 48).Select((v, i) => i / (6 * 48) % 2 == 0 ? v : -1.5f - Math.Abs(v)).ToArray();
        Npz.Write(data, ("x", "<f4", [32 * 6, 48], MemoryMarshal.AsBytes<float>(rows).ToArray()));
        var recipe = "version: 1\nsteps:\n- shrink: {ratio: 0.3, by: parameters, method: l2}\n";
        var done = await Compressed.RunAsync(folder, model, recipe, data);
        Assert.InRange((double)done.Report.Parameters.After / done.Report.Parameters.Before, 0.5, 0.72);
        Assert.True(done.Report.Fidelity.Cosine > 0.3, done.Report.Fidelity.ToString());
    }

    [Fact]
    public async Task Each_of_two_steps_has_its_own_fields_in_the_report()
    {
        using var folder = new Folder();
        var recipe = "version: 1\nsteps:\n- shrink: {ratio: 0.2}\n- shrink: {ratio: 0.2, method: l2}\n";
        var done = await Compressed.RunAsync(folder, Mlp(13), recipe);
        var (first, second) = (Group("structureGroups"), Group("structure2Groups"));
        Assert.Equal(128, first.Units);
        Assert.Equal(first.Kept, second.Units);
        Assert.Equal(done.Report.Layers.Single(l => l.Name == "a").Shape[1], second.Kept);
        Assert.True(second.Kept < first.Kept, $"{first} {second}");
        Assert.Contains("structure2", done.Report.Notes.Keys);
        Assert.Contains("structure2Curve", done.Report.Notes.Keys);

        GroupShrunk Group(string field) =>
            Assert.Single(System.Text.Json.JsonSerializer.Deserialize<GroupShrunk[]>(done.Report.Notes[field], Core.Json.Options)!);
    }

    private static GroupLeft[] Left(Compressed done) =>
        System.Text.Json.JsonSerializer.Deserialize<GroupLeft[]>(done.Report.Notes["structureLeft"], Core.Json.Options)!;

    // x·a + c, Relu, ·b + d; units from 64 on are those before them with other weights behind.
    private static ModelProto Mlp(int opset)
    {
        var (a, c) = (Random("a", 48, 128), Random("c", 128));
        for (var u = 64; u < 128; u++)
        {
            for (var k = 0; k < 48; k++)
                a[k * 128 + u] = a[k * 128 + u - 64];
            c[u] = c[u - 64];
        }
        return OfOpset(opset)
            .Input("x", DataType.Float, 64, 48)
            .Initializer(Tensor("a", a, 48, 128))
            .Initializer(Tensor("c", c, 128))
            .Weight("b", 128, 24)
            .Weight("d", 24)
            .With(
                Node("MatMul", ["x", "a"], ["h"]),
                Node("Add", ["h", "c"], ["i"]),
                Node("Relu", ["i"], ["r"]),
                Node("MatMul", ["r", "b"], ["p"]),
                Node("Add", ["p", "d"], ["y"])
            )
            .Output("y");
    }

    private static ShrinkErrors Errors(Compressed done) =>
        System.Text.Json.JsonSerializer.Deserialize<ShrinkErrors>(done.Report.Notes["structure"], Core.Json.Options)!;

    private static float[] Values(GraphProto graph, string name) =>
        MemoryMarshal.Cast<byte, float>(graph.Initializer.Single(t => t.Name == name).RawData.Span).ToArray();
}
