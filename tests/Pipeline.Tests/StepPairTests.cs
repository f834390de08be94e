using System.Runtime.InteropServices;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Pipeline.Tests;

/// <summary>
/// Any two steps behind one another: refused in a sentence, or a model that runs, of the size that is reported, and that loses no more than
/// the two steps do alone.
/// </summary>
public class StepPairTests
{
    private const int Samples = 64;
    private static readonly string[] Steps =
    [
        "prune: {method: sparsegpt, sparsity: 0.5}",
        "shrink: {ratio: 0.2}",
        "factorize: {method: drone, ratio: 0.6}",
        "separate: {terms: 4}",
        "share: {method: codebook, bits: 5, protect: 0}",
        "quantize: {method: gptq, bits: 5, protect: 0}",
        "quantize: {method: watersic, bits: 4, protect: 0}",
        "quantize: {method: static}",
    ];

    public static TheoryData<int> Firsts => [.. Enumerable.Range(0, Steps.Length)];

    [Theory]
    [MemberData(nameof(Firsts))]
    public async Task Two_steps_are_refused_or_lose_no_more_than_both(int first)
    {
        using var folder = new Folder();
        var data = Path.Combine(folder.Path, "data.npz");
        var x = Random("x", Samples, 8, 10, 10);
        Npz.Write(data, ("x", "<f4", [Samples, 8, 10, 10], MemoryMarshal.AsBytes<float>(x).ToArray()));
        var alone = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (var second in Steps)
        {
            Compressed both;
            try
            {
                both = await MakeAsync($"- {Steps[first]}\n- {second}\n");
            }
            catch (BadInputException refused)
            {
                Assert.DoesNotContain('\n', refused.Message);
                continue;
            }
            Assert.Equal(new FileInfo(both.File).Length, both.Report.Size.After);
            Assert.True(both.Report.Layers.Sum(l => l.BytesAfter) <= both.Report.Size.After, second);
            var most = await ErrorAsync(Steps[first]) + await ErrorAsync(second);
            Assert.True(
                both.Report.Fidelity.RelativeError <= 1.1 * most + 0.01,
                $"{second}: {both.Report.Fidelity.RelativeError} of {most}"
            );
        }

        async Task<double> ErrorAsync(string step)
        {
            if (!alone.TryGetValue(step, out var error))
                alone[step] = error = (await MakeAsync($"- {step}\n")).Report.Fidelity.RelativeError!.Value;
            return error;
        }

        Task<Compressed> MakeAsync(string steps) =>
            Compressed.RunAsync(folder, Model(), $"version: 1\nstore: small\nsteps:\n{steps}", data);
    }

    private static ModelProto Model() =>
        OfOpset(13)
            .Input("x", DataType.Float, 1, 8, 10, 10)
            .Weight("a", 48, 8, 3, 3)
            .Weight("b", 32, 48, 3, 3)
            .Weight("c", 288, 96)
            .Weight("d", 96, 10)
            .With(
                Node("Conv", ["x", "a"], ["p"]),
                Node("Relu", ["p"], ["q"]),
                Node("Conv", ["q", "b"], ["r"], ModelEdit.Attribute("strides", [2L, 2L])),
                Node("Relu", ["r"], ["s"]),
                Node("Flatten", ["s"], ["u"]),
                Node("Gemm", ["u", "c"], ["w"]),
                Node("Relu", ["w"], ["z"]),
                Node("MatMul", ["z", "d"], ["y"])
            )
            .Output("y");
}
