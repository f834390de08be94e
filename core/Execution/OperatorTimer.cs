using System.Diagnostics;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Execution;

/// <summary>
/// Times single operators: a session of one node, as ONNX Runtime runs models by default, several runs of which the lower quartile counts:
/// whatever else the machine does only adds to them.
/// </summary>
public static class OperatorTimer
{
    /// <summary>Larger operands are not made up, in bytes.</summary>
    public const long MostBytes = 256L << 20;

    private const int LeastRuns = 4,
        MostRuns = 64;
    private static readonly TimeSpan Enough = TimeSpan.FromMilliseconds(4);

    /// <summary>What the times of this machine depend on beyond the operator: runtime, device, processor and threads.</summary>
    public static string Machine { get; } =
        $"ONNX Runtime {OrtEnv.Instance().GetVersionString()}, {ExecutionDevice.Name}, {ProcessorName.Find()}, "
        + $"{Environment.ProcessorCount} threads";

    /// <summary>Milliseconds of a run.</summary>
    /// <param name="call">The operator; it puts out one value.</param>
    /// <param name="cancellation">Cancels the runs.</param>
    /// <returns>Null where its operands are too large or of no type that is made up here, or ONNX Runtime does not run it alone.</returns>
    public static double? Measure(OperatorCall call, CancellationToken cancellation)
    {
        if (call.Operands.Any(o => o is { Type: not DataType.Float } || o?.Dims.Any(d => d <= 0) == true))
            return null;
        if (call.Operands.Aggregate((Int128)0, (sum, o) => sum + (o?.Bytes ?? 0)) > MostBytes)
            return null;
        var values = new List<OrtValue>();
        try
        {
            using var options = ModelRunner.Options(byDefault: true);
            using var session = new InferenceSession(Model(call).ToByteArray(), options);
            var inputs = new Dictionary<string, OrtValue>(StringComparer.Ordinal);
            for (var i = 0; i < call.Operands.Count; i++)
                if (call.Operands[i] is { Stored: false } operand)
                    values.Add(inputs[Name(i)] = Value(operand));
            return Time(session, inputs, cancellation);
        }
        catch (OnnxRuntimeException)
        {
            // What a model does with the operator may need its surroundings.
            return null;
        }
        finally
        {
            foreach (var value in values)
                value.Dispose();
        }
    }

    private static double Time(InferenceSession session, Dictionary<string, OrtValue> inputs, CancellationToken cancellation)
    {
        var times = new List<double>();
        var clock = new Stopwatch();
        // The first run warms up.
        for (var run = -1; run < MostRuns && (run < LeastRuns || clock.Elapsed < Enough); run++)
        {
            if (run == 0)
                clock.Start();
            var (outputs, time) = ModelRunner.Run(session, inputs, ["y"], cancellation);
            outputs.Dispose();
            if (run >= 0)
                times.Add(time.TotalMilliseconds);
        }
        times.Sort();
        return times[times.Count / 4];
    }

    private static ModelProto Model(OperatorCall call)
    {
        var node = ModelEdit.Node(call.Op, [.. call.Operands.Select((o, i) => o is null ? "" : Name(i))], ["y"]);
        node.Attribute.AddRange(call.Attributes.Select(a => a.Clone()));
        var model = new ModelProto
        {
            IrVersion = 8,
            OpsetImport = { new OperatorSetIdProto { Version = call.Opset } },
            Graph = new GraphProto { Name = "operator", Node = { node } },
        };
        for (var i = 0; i < call.Operands.Count; i++)
        {
            if (call.Operands[i] is not { } operand)
                continue;
            if (operand.Stored)
            {
                var tensor = ModelEdit.Tensor(Filled(operand), [.. operand.Dims]);
                tensor.Name = Name(i);
                model.Graph.Initializer.Add(tensor);
            }
            else
                model.Graph.Input.Add(ModelRunner.Input(Name(i), (int)operand.Type));
        }
        model.Graph.Output.Add(ModelRunner.Input("y", (int)DataType.Float));
        return model;
    }

    private static OrtValue Value(Operand operand)
    {
        var value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, TensorElementType.Float, [.. operand.Dims]);
        Filled(operand).CopyTo(value.GetTensorMutableDataAsSpan<float>());
        return value;
    }

    // Neither zero nor so small that products are subnormal.
    private static float[] Filled(Operand operand)
    {
        var floats = new float[operand.Dims.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < floats.Length; i++)
            floats[i] = (i % 7 - 3) * 0.125f + 0.0625f;
        return floats;
    }

    private static string Name(int operand) => operand == 0 ? "x" : $"x{operand}";
}
