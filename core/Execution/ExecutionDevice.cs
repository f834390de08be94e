using Microsoft.ML.OnnxRuntime;

namespace Serverless.Core.Execution;

/// <summary>What ONNX Runtime runs models on: CUDA where this build has it and a device is there, else the CPU.</summary>
public static class ExecutionDevice
{
    private const string Cuda = "CUDAExecutionProvider";

    /// <summary>Whether models run on CUDA.</summary>
    public static bool IsCuda { get; } = HasCuda();

    /// <summary><c>cuda</c> or <c>cpu</c>.</summary>
    public static string Name => IsCuda ? "cuda" : "cpu";

    /// <summary>Adds the CUDA provider to a session's options where there is one.</summary>
    internal static SessionOptions With(SessionOptions options)
    {
        if (IsCuda)
            options.AppendExecutionProvider_CUDA();
        return options;
    }

    private static bool HasCuda()
    {
        if (!OrtEnv.Instance().GetAvailableProviders().Contains(Cuda))
            return false;
        try
        {
            using var options = new SessionOptions();
            options.AppendExecutionProvider_CUDA();
            return true;
        }
        catch (OnnxRuntimeException)
        {
            // Built for CUDA, on a machine without a device or driver.
            return false;
        }
    }
}
