namespace Serverless.Benchmarks;

internal static class LargeModel
{
    public static Task<int> RunAsync(string[] args) => Task.FromResult(args.Length);
}
