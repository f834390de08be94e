using Microsoft.ML.OnnxRuntime;

namespace Serverless.TestSupport;

/// <summary>Compares what two models make of inputs.</summary>
internal static class Outputs
{
    /// <summary>Relative error of the first output.</summary>
    public static double Error(string before, string after, IEnumerable<float[]> inputs, params long[] shape)
    {
        using InferenceSession original = new(before),
            compressed = new(after);
        using var run = new RunOptions();
        double difference = 0,
            whole = 0;
        foreach (var input in inputs)
        {
            using var value = OrtValue.CreateTensorValueFromMemory(input, shape);
            using var a = original.Run(run, original.InputNames, [value], original.OutputNames);
            using var b = compressed.Run(run, compressed.InputNames, [value], compressed.OutputNames);
            var x = a[0].GetTensorDataAsSpan<float>();
            var y = b[0].GetTensorDataAsSpan<float>();
            for (var i = 0; i < x.Length; i++)
            {
                whole += (double)x[i] * x[i];
                difference += Math.Pow((double)x[i] - y[i], 2);
            }
        }
        return Math.Sqrt(difference / whole);
    }
}
