using BenchmarkDotNet.Attributes;
using Serverless.Local;

namespace Serverless.Benchmarks;

/// <summary>Whole runs of the digit classifier, evaluation included, in this process: the inverse is models per second.</summary>
[InProcess, WarmupCount(2), IterationCount(6)]
public class ModelBenchmarks
{
    private string folder = "";

    [GlobalSetup]
    public void Setup() => folder = Directory.CreateTempSubdirectory("serverless-bench-").FullName;

    [Benchmark]
    public Task CompressDigitsToInt8()
    {
        var at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Serverless.sln")))
            at = Path.GetDirectoryName(at)!;
        var options = new LocalOptions(Path.Combine(folder, Guid.NewGuid().ToString("N")), folder, null, null, Isolated: false);
        return RunDrop.RunAsync(
            Drop.Of(Path.Combine(at, "tests", "models", "digits", "digits.onnx"), null, null),
            options,
            _ => { },
            _ => { },
            CancellationToken.None
        );
    }

    [GlobalCleanup]
    public void Cleanup() => Directory.Delete(folder, recursive: true);
}
