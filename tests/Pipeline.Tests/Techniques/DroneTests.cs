using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests.Techniques;

/// <summary>Data-aware factorization, against the best of its rank on the inputs that it saw, and against the singular values.</summary>
public class DroneTests
{
    private const int Inputs = 64,
        Outputs = 48,
        Rank = 12,
        Rows = 1024;

    // ‖X·(W − Ŵ)‖ is at least what the outputs X·W lack at the rank (Eckart and Young); samples are calibrated on in the first half.
    [Theory]
    [InlineData("MatMul")]
    [InlineData("Gemm")]
    public async Task Outputs_are_as_near_as_the_rank_allows(string op)
    {
        using var folder = new Folder();
        // Few directions hold most of the energy, and others than those of the weight.
        var x = Matrix<double>.Build.DenseOfRowMajor(Rows, Inputs, [.. Random("x", Rows, Inputs).Select(v => (double)v)]);
        var mix = Matrix<double>.Build.DenseOfRowMajor(Inputs, Inputs, [.. Random("mix", Inputs, Inputs).Select(v => (double)v)]).QR().Q;
        x *= Matrix<double>.Build.DenseOfDiagonalArray([.. Enumerable.Range(0, Inputs).Select(k => Math.Pow(0.9, k))]) * mix;
        var data = Path.Combine(folder.Path, "data.npz");
        var values = x.ToRowMajorArray().Select(v => (float)v).ToArray();
        Npz.Write(data, ("x", "<f4", [Rows, Inputs], MemoryMarshal.AsBytes<float>(values).ToArray()));
        var dims = op == "Gemm" ? new long[] { Outputs, Inputs } : [Inputs, Outputs];
        var node = op == "Gemm" ? Node("Gemm", ["x", "w"], ["y"], ModelEdit.Attribute("transB", 1)) : Node("MatMul", ["x", "w"], ["y"]);
        var model = OfOpset(13).Input("x", DataType.Float, 1, Inputs).Weight("w", dims).With(node).Output("y");
        var stored = Matrix<double>.Build.DenseOfRowMajor((int)dims[0], (int)dims[1], [.. Random("w", dims).Select(v => (double)v)]);
        var weight = op == "Gemm" ? stored.Transpose() : stored;
        var seen = x.SubMatrix(0, Rows / 2, 0, Inputs);
        var best = (seen * weight).Svd(computeVectors: false).S.Skip(Rank).Sum(s => s * s);

        var drone = await ErrorAsync("drone, samples: 512");
        Assert.InRange(drone, best * (1 - 1e-4), best * 1.02);
        Assert.True(await ErrorAsync("svd") > 1.3 * best);

        async Task<double> ErrorAsync(string method)
        {
            var done = await Compressed.RunAsync(
                folder,
                model.Clone(),
                $"version: 1\nsteps:\n- factorize: {{method: {method}, rank: {Rank}}}\n",
                data
            );
            Assert.All(done.Report.Layers, l => Assert.Equal(Rank, l.Rank));
            var made = ModelProto.Parser.ParseFrom(await File.ReadAllBytesAsync(done.File)).Graph;
            var factors = made
                .Node.Where(n => n.OpType is "MatMul" or "Gemm")
                .Select(n => made.Initializer.Single(t => t.Name == n.Input[1]))
                .Select(t =>
                    Matrix<double>.Build.DenseOfRowMajor(
                        (int)t.Dims[0],
                        (int)t.Dims[1],
                        [.. MemoryMarshal.Cast<byte, float>(t.RawData.Span).ToArray().Select(v => (double)v)]
                    )
                )
                .Select(m => op == "Gemm" ? m.Transpose() : m)
                .ToList();
            return (seen * (weight - factors[0] * factors[1])).Enumerate().Sum(v => v * v);
        }
    }

    [Theory]
    [InlineData("digits", 0.5, 0.8)]
    [InlineData("lenet", 0.5, 0.8)]
    public async Task It_loses_less_than_singular_values_at_the_same_ranks(string name, double ratio, double share)
    {
        using var folder = new Folder();
        var from = name == "lenet" ? RealModels.LeNet : RealModels.Digits;
        var (model, data) = (Path.Combine(from, $"{name}.onnx"), Path.Combine(from, "data.npz"));
        Task<Compressed> Of(string method) =>
            Compressed.RunAsync(folder, model, $"version: 1\nsteps:\n- factorize: {{method: {method}, ratio: {ratio}}}\n", data);
        var (svd, drone) = (await Of("svd"), await Of("drone"));
        Assert.Equal(svd.Report.Size.After, drone.Report.Size.After);
        Assert.True(
            drone.Report.Fidelity.RelativeError < share * svd.Report.Fidelity.RelativeError,
            $"{drone.Report.Fidelity} {svd.Report.Fidelity}"
        );
    }

    // A kernel of several elements lies in the first of two convolutions, strides and padding with it.
    [Fact]
    public async Task A_convolution_becomes_one_of_fewer_channels_and_a_product_of_these()
    {
        using var folder = new Folder();
        var model = OfOpset(13)
            .Input("x", DataType.Float, 1, 24, 9, 8)
            .Weight("w", 40, 24, 3, 2)
            .Weight("c", 40)
            .With(
                Node(
                    "Conv",
                    ["x", "w", "c"],
                    ["y"],
                    ModelEdit.Attribute("kernel_shape", 3L, 2L),
                    ModelEdit.Attribute("strides", 2L, 1L),
                    ModelEdit.Attribute("dilations", 1L, 2L),
                    ModelEdit.Attribute("pads", 1L, 0L, 1L, 1L)
                )
            )
            .Output("y");
        var done = await Compressed.RunAsync(folder, model.Clone(), "version: 1\nsteps:\n- factorize: {rank: 28}\n");
        var svd = Matrix<double>.Build.DenseOfRowMajor(40, 144, [.. Random("w", 40, 24, 3, 2).Select(v => (double)v)]).Svd();
        var near =
            svd.U.SubMatrix(0, 40, 0, 28)
            * Matrix<double>.Build.DenseOfDiagonalVector(svd.S.SubVector(0, 28))
            * svd.VT.SubMatrix(0, 28, 0, 144);
        var product = near.ToRowMajorArray().Select(v => (float)v).ToArray();
        model.Graph.Initializer.Single(t => t.Name == "w").RawData = Google.Protobuf.ByteString.CopyFrom(
            MemoryMarshal.AsBytes<float>(product)
        );
        var bytes = Google.Protobuf.MessageExtensions.ToByteArray(model);
        var (expected, _) = Lowered.Run(bytes, Path.Combine(folder.Path, "e.onnx"));
        var (actual, graph) = Lowered.Run(await File.ReadAllBytesAsync(done.File), Path.Combine(folder.Path, "a.onnx"));
        Assert.All(expected.Zip(actual), p => Assert.Equal(p.First, p.Second, 1e-4));
        Assert.Equal(2, graph.Graph.Node.Count(n => n.OpType == "Conv"));
        Assert.True(done.Report.Size.Ratio < 0.95);
    }
}
