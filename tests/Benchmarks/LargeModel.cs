using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Local;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Benchmarks;

/// <summary>
/// <c>large [FOLDER] [GB] [STEPS…]</c>: generates a transformer-shaped fp32 model with external data, compresses it by the command line in
/// 1 GB, to int4 or by each of the steps, and prints throughput beside a plain copy of the same bytes on the same disk.
/// </summary>
internal static class LargeModel
{
    private const int Hidden = 2048,
        Inner = 8192,
        Vocabulary = 32000;

    public static async Task<int> RunAsync(string[] args)
    {
        var folder = args.Length > 0 ? args[0] : Path.Combine(Path.GetTempPath(), "serverless-large");
        var gigabytes = args.Length > 1 ? double.Parse(args[1], CultureInfo.InvariantCulture) : 4;
        Directory.CreateDirectory(folder);
        var bytes = Generate(folder, gigabytes);
        Console.WriteLine($"generated {bytes / 1e9:0.00} GB of weights");
        var copy = Copy(Path.Combine(folder, "model.onnx.data"), Path.Combine(folder, "copy.tmp"));
        Console.WriteLine($"plain copy: {copy:0.0} s, {bytes / 1e9 / copy:0.00} GB/s");
        string[] recipes = args.Length > 2 ? [.. args[2..].Select(s => $"steps:\n- {s}")] : ["preset: int4"];
        foreach (var recipe in recipes)
            await PrintAsync(folder, recipe, bytes);
        return 0;
    }

    private static async Task PrintAsync(string folder, string recipe, long bytes)
    {
        await File.WriteAllTextAsync(Path.Combine(folder, "large.yaml"), $"version: 1\n{recipe}\n");
        var (seconds, peak) = await CompressAsync(folder);
        using var report = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder, "out", "report.json")));
        var root = report.RootElement;
        Console.WriteLine(
            $"{recipe.Replace("\n", " ")}, all of it: {seconds:0.0} s, {bytes / 1e9 / seconds:0.00} GB/s of weights; peak resident memory {peak / 1e6:0} MB (host and evaluation process together)"
        );
        var layers = root.GetProperty("layers").EnumerateArray().Sum(l => l.GetProperty("seconds").GetDouble());
        Console.WriteLine($"the layers alone: {layers:0.0} core-seconds, {bytes / 1e9 / layers:0.00} GB/s per core");
        Console.WriteLine(
            $"size ratio {root.GetProperty("size").GetProperty("ratio").GetDouble():0.000}, cosine {root.GetProperty("fidelity").GetProperty("cosine").GetDouble():0.0000}, latency ratio {root.GetProperty("latency").GetProperty("ratio").GetDouble():0.00} over {root.GetProperty("latency").GetProperty("segments").GetInt32()} segments"
        );
    }

    /// <summary>Writes the model; returns the bytes of its weights.</summary>
    public static long Generate(string folder, double gigabytes)
    {
        var model = new ModelProto
        {
            IrVersion = 8,
            ProducerName = "serverless",
            Graph = new GraphProto { Name = "transformer" },
        };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 17 });
        var ids = new ValueInfoProto
        {
            Name = "input_ids",
            Type = new TypeProto
            {
                TensorType = new() { ElemType = (int)DataType.Int64, Shape = new TensorShapeProto() },
            },
        };
        ids.Type.TensorType.Shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "batch" });
        ids.Type.TensorType.Shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "sequence" });
        model.Graph.Input.Add(ids);
        model.Graph.Output.Add(
            new ValueInfoProto
            {
                Name = "logits",
                Type = new TypeProto { TensorType = new() { ElemType = 1 } },
            }
        );
        var noise = Noise();
        using var data = new FileStream(
            Path.Combine(folder, "model.onnx.data"),
            FileMode.Create,
            FileAccess.Write,
            FileShare.None,
            1 << 20
        );
        var blocks = Math.Max(
            1,
            (int)Math.Round((gigabytes * 1e9 - 8.0 * Vocabulary * Hidden) / (4.0 * (4 * Hidden * Hidden + 2 * Hidden * Inner)))
        );
        Add("embed", Vocabulary, Hidden);
        model.Graph.Initializer.Add(Vector("ones", 1f));
        model.Graph.Initializer.Add(Vector("zeros", 0f));
        Node("Gather", ["embed", "input_ids"], "h0");
        for (var b = 0; b < blocks; b++)
        {
            var (h, p) = ($"h{b}", $"block{b}/");
            Node("LayerNormalization", [h, "ones", "zeros"], p + "n1");
            foreach (var m in new[] { "q", "k", "v" })
            {
                Add(p + m + ".weight", Hidden, Hidden);
                Node("MatMul", [p + "n1", p + m + ".weight"], p + m);
            }
            Node("Transpose", [p + "k"], p + "kt", ModelEdit.Attribute("perm", 0L, 2L, 1L));
            Node("MatMul", [p + "q", p + "kt"], p + "scores");
            Node("Softmax", [p + "scores"], p + "attention", ModelEdit.Attribute("axis", -1));
            Node("MatMul", [p + "attention", p + "v"], p + "mixed");
            Add(p + "o.weight", Hidden, Hidden);
            Node("MatMul", [p + "mixed", p + "o.weight"], p + "o");
            Node("Add", [h, p + "o"], p + "r1");
            Node("LayerNormalization", [p + "r1", "ones", "zeros"], p + "n2");
            Add(p + "up.weight", Hidden, Inner);
            Node("MatMul", [p + "n2", p + "up.weight"], p + "up");
            Node("Relu", [p + "up"], p + "act");
            Add(p + "down.weight", Inner, Hidden);
            Node("MatMul", [p + "act", p + "down.weight"], p + "down");
            Node("Add", [p + "r1", p + "down"], $"h{b + 1}");
        }
        Add("head.weight", Hidden, Vocabulary);
        Node("MatMul", [$"h{blocks}", "head.weight"], "logits");
        File.WriteAllBytes(Path.Combine(folder, "model.onnx"), model.ToByteArray());
        return data.Position;

        void Add(string name, long rows, long columns)
        {
            var tensor = new TensorProto { Name = name, DataType = 1 };
            tensor.Dims.AddRange([rows, columns]);
            var length = rows * columns * 4;
            TensorRef.Point(tensor, "model.onnx.data", data.Position, length);
            model.Graph.Initializer.Add(tensor);
            // Each weight starts elsewhere in the noise, so that no two are alike.
            var at = (int)(data.Position / 4096 * 8191 * 64 % noise.Length) / 64 * 64;
            for (long done = 0; done < length; )
            {
                var take = (int)Math.Min(noise.Length - at, length - done);
                data.Write(noise, at, take);
                done += take;
                at = 0;
            }
        }

        void Node(string op, string[] inputs, string output, params AttributeProto[] attributes) =>
            model.Graph.Node.Add(ModelEdit.Node(op, inputs, [output], attributes));
    }

    private static TensorProto Vector(string name, float value)
    {
        var tensor = new TensorProto
        {
            Name = name,
            DataType = 1,
            RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(Enumerable.Repeat(value, Hidden).ToArray())),
        };
        tensor.Dims.Add(Hidden);
        return tensor;
    }

    private static byte[] Noise()
    {
        var random = new Random(1);
        var values = new float[(8 << 20) + 1021];
        for (var i = 0; i < values.Length; i++)
            values[i] = (float)(0.02 * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        return MemoryMarshal.AsBytes<float>(values).ToArray();
    }

    private static double Copy(string from, string to)
    {
        var clock = Stopwatch.StartNew();
        File.Copy(from, to, overwrite: true);
        var seconds = clock.Elapsed.TotalSeconds;
        File.Delete(to);
        return seconds;
    }

    private static async Task<(double Seconds, long PeakBytes)> CompressAsync(string folder)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardError = true };
        foreach (
            var a in new[]
            {
                typeof(ExitCode).Assembly.Location,
                "compress",
                Path.Combine(folder, "model.onnx"),
                "--recipe",
                Path.Combine(folder, "large.yaml"),
                "--out",
                Path.Combine(folder, "out"),
                "--force",
                "--memory",
                "1GB",
            }
        )
            start.ArgumentList.Add(a);
        var clock = Stopwatch.StartNew();
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        long peak = 0;
        while (!process.WaitForExit(20))
            peak = Math.Max(peak, Resident(process.Id));
        var seconds = clock.Elapsed.TotalSeconds;
        return process.ExitCode == 0 ? (seconds, peak) : throw new InvalidOperationException(await error);
    }

    // The process and its children, from /proc.
    private static long Resident(int id)
    {
        long total = 0;
        foreach (var folder in Directory.GetDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), out var pid))
                continue;
            try
            {
                var stat = File.ReadAllText($"{folder}/stat");
                var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
                if (pid == id || int.Parse(fields[1], CultureInfo.InvariantCulture) == id)
                    total += long.Parse(fields[21], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
            }
            catch (IOException)
            {
                // The process ended between the listing and the reading.
            }
        }
        return total;
    }
}
