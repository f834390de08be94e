using System.Diagnostics;
using System.Globalization;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.TestSupport;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Benchmarks;

/// <summary>Where integer kernels pay: four equal layers in a row, int8 against float, for the shapes that networks are made of.</summary>
internal static class IntegerPay
{
    private const int Layers = 4,
        Runs = 200;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    /// <summary>Prints a row a shape: the fastest run of each, so that what else the machine does falls out.</summary>
    public static async Task<int> RunAsync(string method)
    {
        var folder = Directory.CreateTempSubdirectory("serverless-integers-").FullName;
        Console.WriteLine("| layer | products a layer | float ms | int8 ms | int8 / float |\n|---|---:|---:|---:|---:|");
        try
        {
            if (method == "static" && Environment.GetEnvironmentVariable("PRODUCTS") is null)
            {
                foreach (var (kernel, group) in new[] { (3, false), (1, false), (3, true) })
                foreach (var channels in new[] { 8, 16, 24, 32, 48, 64, 96, 128, 256 })
                foreach (var size in new[] { 7, 14, 28, 56 })
                    if ((long)channels * channels * kernel * kernel * size * size < 2_000_000_000)
                        await RowAsync(
                            folder,
                            Convolutions(channels, kernel, size, group),
                            $"{(group ? "depthwise " : "")}{kernel}×{kernel}, {channels} channels, {size}×{size}",
                            (long)channels * (group ? 1 : channels) * kernel * kernel * size * size,
                            method
                        );
            }
            foreach (var width in new[] { 32, 64, 128, 256, 512, 1024 })
            foreach (var rows in new[] { 1, 16, 128 })
                await RowAsync(folder, Products(width, rows), $"{rows}×{width} times {width}×{width}", (long)rows * width * width, method);
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task RowAsync(string folder, ModelProto model, string name, long products, string method)
    {
        var file = Path.Combine(folder, "m.onnx");
        await File.WriteAllBytesAsync(file, model.ToByteArray());
        var row = await TableRow.MakeAsync(
            folder,
            file,
            $"steps:\n- correctBias: {{apply: false}}\n- quantize: {{method: {method}, onlyIfFaster: false}}",
            null
        );
        var integers = row.Report.Layers.Count(l => l.Form is "Qdq" or "Dynamic");
        var (before, after) = Times(file, row.File, model.Graph.Input[0]);
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {name} | {products:N0} | {before:0.0000} | {after:0.0000} | {after / before:0.00}{(integers < Layers ? $" ({integers} int8)" : "")} |"
            )
        );
    }

    private static (double Before, double After) Times(string before, string after, ValueInfoProto input)
    {
        using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
        options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        using var a = new InferenceSession(before, options);
        using var b = new InferenceSession(after, options);
        var shape = input.Type.TensorType.Shape.Dim.Select(d => d.DimValue).ToArray();
        using var value = OrtValue.CreateTensorValueFromMemory(Random("x", shape), shape);
        using var run = new RunOptions();
        var (x, y, clock) = (double.MaxValue, double.MaxValue, Stopwatch.StartNew());
        for (var i = 0; i < Runs && clock.Elapsed < Limit; i++)
            (x, y) = (Math.Min(x, Time(a)), Math.Min(y, Time(b)));
        return (x, y);

        double Time(InferenceSession session)
        {
            var one = Stopwatch.StartNew();
            using var _ = session.Run(run, [input.Name], [value], session.OutputNames);
            return one.Elapsed.TotalMilliseconds;
        }
    }

    private static ModelProto Convolutions(int channels, int kernel, int size, bool depthwise)
    {
        var model = OfOpset(17).Input("y0", DataType.Float, 1, channels, size, size);
        for (var i = 0; i < Layers; i++)
        {
            model
                .Weight($"w{i}", channels, depthwise ? 1 : channels, kernel, kernel)
                .Weight($"b{i}", channels)
                .With(
                    Node(
                        "Conv",
                        [$"y{i}", $"w{i}", $"b{i}"],
                        [$"c{i}"],
                        ModelEdit.Attribute("pads", Enumerable.Repeat((long)kernel / 2, 4).ToArray()),
                        ModelEdit.Attribute("group", depthwise ? (long)channels : 1)
                    ),
                    Node("Relu", [$"c{i}"], [$"y{i + 1}"])
                );
        }
        return model.With(Node("GlobalAveragePool", [$"y{Layers}"], ["out"])).Output("out");
    }

    private static ModelProto Products(int width, int rows)
    {
        var model = OfOpset(17).Input("y0", DataType.Float, rows, width);
        for (var i = 0; i < Layers; i++)
            model
                .Weight($"w{i}", width, width)
                .Weight($"b{i}", width)
                .With(Node("Gemm", [$"y{i}", $"w{i}", $"b{i}"], [$"c{i}"]), Node("Relu", [$"c{i}"], [$"y{i + 1}"]));
        return model.With(Node("Softmax", [$"y{Layers}"], ["out"])).Output("out");
    }
}
