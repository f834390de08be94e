using System.Runtime.ExceptionServices;

namespace Serverless.Core.Execution;

/// <summary>
/// How many samples run beside each other: as many as there are processors, on one thread each, where what they add to this process
/// takes no more than 160 MB; else one at a time on all threads. Threads within an operator wait for each other, samples do not.
/// </summary>
/// <param name="alone">One at a time, whatever they take.</param>
internal sealed class Abreast(bool alone = false)
{
    private const long Limit = 160L << 20;
    private int degree = alone || ExecutionDevice.IsCuda || Environment.ProcessorCount == 1 ? 1 : 0;

    /// <summary>Threads of a session that runs them; null for as many as ONNX Runtime chooses.</summary>
    public int? Threads => degree == 1 ? null : 1;

    /// <summary>Samples at a time; 1 before the first has run.</summary>
    public int Degree => Math.Max(1, degree);

    /// <summary>Does something with one sample, the first time to find out what it adds to the process.</summary>
    /// <returns>Whether sessions opened before have too few threads now.</returns>
    public bool Measure(Action run)
    {
        if (degree != 0)
        {
            run();
            return false;
        }
        using var growth = new MemoryGrowth();
        run();
        degree = (int)Math.Clamp(Limit / Math.Max(1, growth.Bytes), 1, Environment.ProcessorCount);
        return degree == 1;
    }

    /// <summary>Samples in groups that run beside each other; each is read when its group's turn comes.</summary>
    public IEnumerable<IReadOnlyList<int>> Groups(IEnumerable<int> samples)
    {
        var group = new List<int>();
        foreach (var sample in samples)
        {
            group.Add(sample);
            if (group.Count < Degree)
                continue;
            yield return group;
            group = [];
        }
        if (group.Count > 0)
            yield return group;
    }

    /// <summary>Calls for 0 … count − 1 on some threads, and throws the first failure as it was thrown.</summary>
    public static void Beside(int count, int threads, Action<int> call, CancellationToken cancellation)
    {
        var degree = new ParallelOptions { MaxDegreeOfParallelism = threads, CancellationToken = cancellation };
        try
        {
            Parallel.For(0, count, degree, call);
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
    }
}
