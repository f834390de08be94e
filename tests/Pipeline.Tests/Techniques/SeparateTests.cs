using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Techniques.Factorization;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests.Techniques;

/// <summary>Depthwise separation, against its formula in double precision and against the sum without a refit.</summary>
public class SeparateTests
{
    private const int Outputs = 16,
        Inputs = 12,
        Pixels = 9;

    // Guo et al. 2018, theorem 1: as many terms as the kernel has elements make it up.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Of_full_rank_the_sum_is_the_kernel(bool depthwiseFirst)
    {
        var weight = InputsFirst();
        var plan = new SeparationPlan(Layout(), depthwiseFirst, Pixels);
        var found = Separate.Found(plan, weight, null, null, CancellationToken.None);
        Assert.True(found.Lost < 1e-20 * weight.Length, $"{found.Lost}");
        Assert.Equal(plan.Places().Select(p => p.Elements), found.Factors.Select(f => (long)f.Values.Length));
    }

    // The error of each channel's singular values behind the terms.
    [Theory]
    [InlineData(true, 1)]
    [InlineData(true, 3)]
    [InlineData(false, 2)]
    public void Without_inputs_each_channel_lacks_its_smallest_singular_values(bool depthwiseFirst, int terms)
    {
        var weight = InputsFirst();
        var found = Separate.Found(new SeparationPlan(Layout(), depthwiseFirst, terms), weight, null, null, CancellationToken.None);
        var channels = Enumerable
            .Range(0, depthwiseFirst ? Inputs : Outputs)
            .Select(c =>
                Matrix<double>.Build.Dense(
                    depthwiseFirst ? Outputs : Inputs,
                    Pixels,
                    (other, k) => depthwiseFirst ? weight[(c * Pixels + k) * Outputs + other] : weight[(other * Pixels + k) * Outputs + c]
                )
            );
        var best = channels.Sum(m => m.Svd(computeVectors: false).S.Skip(terms).Sum(s => s * s));
        Assert.Equal(best, found.Lost, 1e-9 * best);
    }

    // The 1×1 part's normal equations hold: what is lost is orthogonal to what any change of it would add.
    [Theory]
    [InlineData(true, 1)]
    [InlineData(true, 2)]
    [InlineData(false, 1)]
    [InlineData(false, 2)]
    public void The_refit_is_the_least_squares_solution(bool depthwiseFirst, int terms)
    {
        var weight = InputsFirst();
        var x = Matrix<double>.Build.DenseOfRowMajor(400, Inputs * Pixels, Doubles(Random("x", 400, Inputs * Pixels)));
        var mix = Matrix<double>.Build.DenseOfRowMajor(x.ColumnCount, x.ColumnCount, Doubles(Random("mix", x.ColumnCount, x.ColumnCount)));
        x *= mix;
        var moments = new InputMoments((x.Transpose() * x).ToRowMajorArray(), x.RowCount);
        var plan = new SeparationPlan(Layout(), depthwiseFirst, terms);
        var plain = Separate.Found(plan, weight, moments, null, CancellationToken.None);
        var refitted = Separate.Found(plan, weight, moments, moments.Gram, CancellationToken.None);
        Assert.True(refitted.OutputError < 0.9 * plain.OutputError, $"{refitted.OutputError} {plain.OutputError}");
        Assert.Equal(
            Least(x, plain.Factors, weight, depthwiseFirst, terms),
            refitted.OutputError!.Value * x.RowCount,
            1e-6 * plain.OutputError!.Value * x.RowCount
        );
    }

    // With strides, two terms of the other order take more multiply-accumulates than the kernel.
    [Theory]
    [InlineData("strides", true)]
    [InlineData("same", true)]
    [InlineData("same", false)]
    [InlineData("dilations", true)]
    [InlineData("dilations", false)]
    public async Task A_kernel_that_is_a_sum_of_terms_is_replaced_by_them(string attributes, bool depthwiseFirst)
    {
        using var folder = new Folder();
        var plan = new SeparationPlan(Layout(), depthwiseFirst, 2);
        var sum = Kernel(Separate.Found(plan, InputsFirst(), null, null, CancellationToken.None).Factors, depthwiseFirst, 2);
        var values = new float[sum.Length];
        for (var at = 0; at < sum.Length; at++)
            values[at % Outputs * Inputs * Pixels + at / Outputs] = (float)sum[at];
        var model = Net(attributes);
        model.Graph.Initializer.Single(t => t.Name == "w").RawData = Google.Protobuf.ByteString.CopyFrom(
            MemoryMarshal.AsBytes<float>(values)
        );
        var done = await Compressed.RunAsync(folder, model.Clone(), "version: 1\nsteps:\n- separate: {terms: 2}\n");
        var (expected, _) = Lowered.Run(Google.Protobuf.MessageExtensions.ToByteArray(model), Path.Combine(folder.Path, "e.onnx"));
        var (actual, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.Equal(2, graph.Graph.Node.Count(n => n.OpType == "Conv"));
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, 1e-4));
        Assert.True(done.Report.MultiplyAccumulates!.After < done.Report.MultiplyAccumulates.Before);
    }

    [Fact]
    public async Task Refitted_on_data_it_loses_less_at_the_same_size()
    {
        using var folder = new Folder();
        var (model, data) = (Path.Combine(RealModels.LeNet, "lenet.onnx"), Path.Combine(RealModels.LeNet, "data.npz"));
        Task<Compressed> Of(string options) => Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- separate: {{{options}}}\n", data);
        var (plain, refitted) = (await Of("terms: 3, samples: 0"), await Of("terms: 3"));
        Assert.Contains(refitted.Report.Layers, l => l.Rank == 3);
        Assert.True(
            refitted.Report.Fidelity.RelativeError < 0.9 * plain.Report.Fidelity.RelativeError,
            $"{refitted.Report.Fidelity} {plain.Report.Fidelity}"
        );
    }

    // Nothing to fit to: the layer stays, or becomes zeros.
    [Theory]
    [InlineData("separate: {terms: 2}")]
    [InlineData("factorize: {method: drone, ratio: 0.4}")]
    [InlineData("factorize: {ratio: 0.4}")]
    public async Task A_kernel_of_zeros_still_makes_zeros(string step)
    {
        using var folder = new Folder();
        var model = Net("same");
        model.Graph.Initializer.Single(t => t.Name == "w").RawData = Google.Protobuf.ByteString.CopyFrom(
            new byte[4 * Outputs * Inputs * Pixels]
        );
        var done = await Compressed.RunAsync(folder, model.Clone(), $"version: 1\nsteps:\n- {step}\n");
        var (expected, _) = Lowered.Run(Google.Protobuf.MessageExtensions.ToByteArray(model), Path.Combine(folder.Path, "e.onnx"));
        var (actual, _) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.Equal(expected, actual);
    }

    [Theory]
    [InlineData("terms: 9", "more multiply-accumulates")]
    [InlineData("ratio: 0.05", "more multiply-accumulates")]
    public async Task What_would_be_no_cheaper_stays_and_says_so(string options, string why)
    {
        using var folder = new Folder();
        var done = await Compressed.RunAsync(folder, Net("same"), $"version: 1\nsteps:\n- separate: {{{options}}}\n- prune: {{}}\n");
        var layer = Assert.Single(done.Report.Layers, l => l.Name == "w");
        Assert.Contains(why, Assert.Single(layer.NotApplied).Reason, StringComparison.Ordinal);
    }

    // Σ over the outputs of ‖X·(w − ŵ)‖² at the least, by the QR decomposition of what the 1×1 part's weights multiply.
    private static double Least(Matrix<double> x, IReadOnlyList<FoundFactor> factors, double[] weight, bool depthwiseFirst, int terms)
    {
        double sum = 0;
        for (var o = 0; o < Outputs; o++)
        {
            var target = x * Vector<double>.Build.Dense(Inputs * Pixels, at => weight[at * Outputs + o]);
            var seen = Matrix<double>.Build.Dense(x.RowCount, Inputs * terms);
            for (var i = 0; i < Inputs; i++)
            for (var j = 0; j < terms; j++)
            {
                var filter = depthwiseFirst
                    ? factors[0].Values.AsSpan((i * terms + j) * Pixels, Pixels).ToArray()
                    : factors[1].Values.AsSpan((o * terms + j) * Pixels, Pixels).ToArray();
                seen.SetColumn(i * terms + j, x.SubMatrix(0, x.RowCount, i * Pixels, Pixels) * Vector<double>.Build.Dense(filter));
            }
            sum += (target - seen * seen.QR().Solve(target)).L2Norm() is var norm ? norm * norm : 0;
        }
        return sum;
    }

    // Inputs × kernel × outputs of the factors, by their definition.
    private static double[] Kernel(IReadOnlyList<FoundFactor> factors, bool depthwiseFirst, int terms)
    {
        var (kernel, first, second) = (new double[Inputs * Pixels * Outputs], factors[0].Values, factors[1].Values);
        for (var i = 0; i < Inputs; i++)
        for (var k = 0; k < Pixels; k++)
        for (var o = 0; o < Outputs; o++)
        for (var j = 0; j < terms; j++)
            kernel[(i * Pixels + k) * Outputs + o] += depthwiseFirst
                ? first[(i * terms + j) * Pixels + k] * second[o * Inputs * terms + i * terms + j]
                : first[(o * terms + j) * Inputs + i] * second[(o * terms + j) * Pixels + k];
        return kernel;
    }

    private static ProductLayout Layout() => new("Conv", [Outputs, Inputs, 3, 3], Outputs, Inputs, [3, 3], [1, 1], true);

    private static double[] InputsFirst()
    {
        var (stored, weight) = (Random("w", Outputs, Inputs, 3, 3), new double[Outputs * Inputs * Pixels]);
        for (var at = 0; at < stored.Length; at++)
            weight[at % (Inputs * Pixels) * Outputs + at / (Inputs * Pixels)] = stored[at];
        return weight;
    }

    private static ModelProto Net(string attributes) =>
        OfOpset(12)
            .Input("x", DataType.Float, 2, Inputs, 13, 14)
            .Weight("w", Outputs, Inputs, 3, 3)
            .Weight("c", Outputs)
            .With(
                Node(
                    "Conv",
                    ["x", "w", "c"],
                    ["y"],
                    attributes switch
                    {
                        "strides" => [ModelEdit.Attribute("strides", 2L, 2L), ModelEdit.Attribute("pads", 1L, 0L, 1L, 2L)],
                        "same" => [ModelEdit.Attribute("pads", 1L, 1L, 1L, 1L), ModelEdit.Attribute("kernel_shape", 3L, 3L)],
                        _ => [ModelEdit.Attribute("dilations", 2L, 1L), ModelEdit.Attribute("group", 1L)],
                    }
                )
            )
            .Output("y");

    private static double[] Doubles(float[] values) => Array.ConvertAll(values, v => (double)v);
}
