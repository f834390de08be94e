using CsCheck;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Model;
using Xunit;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Units that are zero can be removed by what their group says: the model computes the same.</summary>
public class GraphFactsRemovalTests
{
    private static readonly (string, DataType, long[])[] Inputs = [("x", DataType.Float, [2, 3, 4, 4]), ("c", DataType.Bool, [])];

    [Fact]
    public void Removing_zero_units_of_random_graphs_changes_nothing()
    {
        var (groups, open) = (0, 0);
        Gen.Int[0, int.MaxValue - 1]
            .Sample(
                seed =>
                {
                    var (all, prunable) = Remove(seed);
                    Interlocked.Add(ref groups, all);
                    Interlocked.Add(ref open, prunable);
                },
                threads: 1
            );
        Assert.True(open > groups / 2, $"{open} of {groups} groups can be pruned");
    }

    // Else the test above would hold for units that nothing depends on.
    [Fact]
    public void Removing_units_that_are_not_zero_changes_outputs()
    {
        var changed = 0;
        for (var seed = 0; seed < 20; seed++)
        {
            var model = RandomGraphs.Build(seed).Model;
            var facts = new GraphFacts(model);
            var before = Run(model.ToByteArray(), seed, true);
            ZeroUnits.Remove(model, facts, facts.Groups.All.Where(g => g.CanShrink).ToDictionary(g => g, _ => new[] { 0 }));
            var after = Run(model.ToByteArray(), seed, true);
            changed += before.Zip(after).Any(p => p.First.Zip(p.Second).Any(v => Math.Abs(v.First - v.Second) > 1e-3)) ? 1 : 0;
        }
        Assert.True(changed > 15, $"{changed} of 20");
    }

    [Fact]
    public void Shapes_and_types_of_random_graphs_are_those_of_a_run() =>
        Gen.Int[0, int.MaxValue - 1]
            .Sample(
                seed =>
                {
                    var model = RandomGraphs.Build(seed).Model;
                    ObservedValues.Check(model, Inputs, seed);
                    var coverage = ObservedValues.Count(new GraphFacts(model));
                    Assert.Equal(coverage.Values, coverage.Types);
                    Assert.Equal(coverage.Values, coverage.Ranks);
                },
                threads: 1
            );

    private static (int All, int Prunable) Remove(int seed)
    {
        var model = RandomGraphs.Build(seed).Model;
        var random = new Random(seed);
        var facts = new GraphFacts(model);
        var units = new Dictionary<ChannelGroup, int[]>();
        foreach (var group in facts.Groups.All.Where(g => g.CanShrink))
        {
            var which = Enumerable.Range(0, group.Units).Where(_ => random.Next(3) == 0).Take(group.Units - 1).ToArray();
            if (which.Length > 0)
                units[group] = which;
        }
        ZeroUnits.Zero(units);
        var before = model.ToByteArray();
        var inputs = new Dictionary<bool, float[][]> { [false] = Run(before, seed, false), [true] = Run(before, seed, true) };
        ZeroUnits.Remove(model, facts, units);
        var after = model.ToByteArray();
        foreach (var (condition, outputs) in inputs)
        {
            var now = Run(after, seed, condition);
            for (var o = 0; o < outputs.Length; o++)
            {
                Assert.Equal(outputs[o].Length, now[o].Length);
                for (var i = 0; i < now[o].Length; i++)
                    Assert.True(
                        Math.Abs(now[o][i] - outputs[o][i]) <= 1e-5 * (1 + outputs[o].Max(Math.Abs)),
                        $"seed {seed}: {outputs[o][i]} became {now[o][i]}"
                    );
            }
        }
        return (facts.Groups.All.Count, facts.Groups.All.Count(g => g.CanShrink));
    }

    private static float[][] Run(byte[] model, int seed, bool condition)
    {
        using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, IntraOpNumThreads = 1 };
        using var session = new InferenceSession(model, options);
        using var x = OrtValue.CreateTensorValueFromMemory(Values(seed), [2, 3, 4, 4]);
        using var c = OrtValue.CreateTensorValueFromMemory(new[] { condition }, []);
        using var run = new RunOptions();
        using var made = session.Run(run, ["x", "c"], [x, c], session.OutputNames);
        return [.. made.Select(v => v.GetTensorDataAsSpan<float>().ToArray())];
    }

    private static float[] Values(int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, 2 * 3 * 4 * 4).Select(_ => (float)random.NextDouble() - 0.5f)];
    }
}
