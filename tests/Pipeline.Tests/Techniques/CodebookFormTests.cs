using Google.Protobuf;
using Serverless.Core.Forms;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Pipeline.Tests;

/// <summary>Codebooks in the file: at every operator and opset the runtime folds what the grid's formula in double precision says.</summary>
public class CodebookFormTests
{
    private static readonly (string Options, double LeastCosine)[] Methods =
    [
        ("bits: 4", 0.97),
        ("bits: 1", 0.5),
        ("bits: 3, rows: 8", 0.9),
        ("bits: 5, scale: row", 0.98),
        ("bits: 6, start: linear", 0.995),
        ("bits: 2, rows: 1, scale: row", 0.8),
        ("method: product, bits: 6, dimension: 2", 0.8),
        ("method: product, bits: 3, dimension: 4, rows: 16", 0.3),
        ("method: product, bits: 4, dimension: 8, scale: row", 0.2),
        ("method: product, bits: 4, dimension: 1", 0.97),
    ];

    private static readonly (string Options, double LeastCosine)[] Wide =
    [
        ("bits: 8, rows: 32", 0.999),
        ("bits: 7", 0.999),
        ("method: product, bits: 8, dimension: 2", 0.97),
        ("method: product, bits: 11, dimension: 4", 0.85),
    ];

    public static TheoryData<string> Operators => StorageFormTests.Operators;

    [Theory]
    [MemberData(nameof(Operators))]
    public async Task Nodes_decode_what_the_reference_decodes_and_fold_at_every_opset(string op)
    {
        using var folder = new Folder();
        var large = op.Contains("large", StringComparison.Ordinal);
        var methods = op switch
        {
            "MatMul large" => Wide,
            _ when large => Wide[..2],
            _ => Methods,
        };
        foreach (var opset in large ? new[] { 17 } : [7, 11, 17, 21])
        {
            var model = StorageFormTests.Models[op](opset);
            var (exact, _) = Lowered.Run(model.ToByteArray(), Path.Combine(folder.Path, "float.onnx"));
            foreach (var (options, least) in methods)
            {
                var lowered = await Lowered.Of(folder, StorageFormTests.Models[op](opset), $"share: {{{options}, protect: 0}}");
                Assert.NotEmpty(lowered.Encoded);
                var cosine = Lowered.Cosine(exact, lowered.Outputs);
                Assert.True(cosine >= least, $"{op} {opset} {options}: cosine {cosine}");
                var left = lowered.Optimized;
                Assert.True(left.GetValueOrDefault("Cast") == 0 && left.GetValueOrDefault("Add") == 0, string.Join(' ', left));
                Assert.True(op == "Gather" || left.GetValueOrDefault("Gather") == 0, string.Join(' ', left));
                if (op is "LSTM" or "GRU" or "Transposed and shared" || op.StartsWith("Gemm large", StringComparison.Ordinal))
                    continue;
                foreach (var (name, layer) in lowered.Encoded)
                {
                    Assert.Equal(FormName.Codebook, layer.Form);
                    var reference = Form.All[layer.Form].Decode(layer, lowered.Shards[name]);
                    var (decoded, stored) = (lowered.LargestWeight, new double[reference.Length]);
                    for (long i = 0; i < stored.Length; i++)
                        stored[i] = reference[layer.Shape.Row(i) * layer.Shape.Axis + layer.Shape.Column(i)];
                    Assert.True(Near(stored) || Near(reference), $"{op} {opset} {options}");

                    // In the order of the view where the runtime takes a transposition into its product.
                    bool Near(double[] wanted) => decoded.Zip(wanted).All(p => Math.Abs(p.First - p.Second) <= 1e-6);
                }
            }
        }
    }
}
