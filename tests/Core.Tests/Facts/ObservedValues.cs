using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Xunit;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Tests;

/// <summary>Runs a model with all of its values as outputs, and holds what was inferred of them against what ONNX Runtime makes.</summary>
internal static class ObservedValues
{
    /// <summary>How many values of the main graph there are, and of how many what is known.</summary>
    public sealed record Coverage(int Values, int Types, int Ranks, int Numbers, int Named)
    {
        public static Coverage operator +(Coverage a, Coverage b) =>
            new(a.Values + b.Values, a.Types + b.Types, a.Ranks + b.Ranks, a.Numbers + b.Numbers, a.Named + b.Named);
    }

    /// <summary>How much is known of the values that nodes make.</summary>
    public static Coverage Count(GraphFacts facts)
    {
        var all = new Coverage(0, 0, 0, 0, 0);
        foreach (var scope in facts.Roots[0].All())
        foreach (var name in scope.Nodes.SelectMany(n => n.Output).Where(o => o.Length > 0))
        {
            var fact = facts.In(scope).Of(name);
            all += new Coverage(
                1,
                fact.Type != DataType.Undefined ? 1 : 0,
                fact.Shape is not null ? 1 : 0,
                fact.Shape?.All(d => d.Value is not null) == true ? 1 : 0,
                fact.Shape?.All(d => !d.IsUnknown) == true ? 1 : 0
            );
        }
        return all;
    }

    /// <summary>Checks every value that can be seen against what was inferred.</summary>
    /// <returns>How many were seen.</returns>
    public static int Check(ModelProto model, IReadOnlyList<(string Name, DataType Type, long[] Shape)> inputs, int seed)
    {
        var facts = new GraphFacts(model.Clone());
        var main = facts.Roots[0];
        var lifted = main.All()
            .Where(s => s.Parent is not null)
            .SelectMany(s =>
                s.Nodes.SelectMany(n => n.Output).Where(o => o.Length > 0 && facts.In(s).Type(o) == DataType.Float).Select(o => (s, o))
            )
            .Select(p => (Name: SubgraphTaps.Name(p.s, p.o), Fact: facts.In(p.s).Of(p.o)))
            .Where(p => p.Name is not null)
            .GroupBy(p => p.Name!)
            .ToDictionary(g => g.Key, g => g.First().Fact);
        var tapped = model.Clone();
        SubgraphTaps.Lift(tapped, lifted.Keys.ToHashSet());
        var shown = tapped.Graph.Node.SelectMany(n => n.Output).Where(o => o.Length > 0).ToList();
        tapped.Graph.Output.Clear();
        tapped.Graph.Output.AddRange(shown.Select(o => new ValueInfoProto { Name = o }));
        using var options = new SessionOptions
        {
            GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
        };
        using var session = new InferenceSession(tapped.ToByteArray(), options);
        var symbols = new Dictionary<string, long>();
        foreach (var (name, _, shape) in inputs)
            Hold(name, facts.Main.Of(name), null, shape, symbols);
        using var results = session.Run([.. inputs.Select(i => Random(i, seed))], shown);
        foreach (var result in results)
        {
            var fact = lifted.GetValueOrDefault(result.Name) ?? facts.Main.Of(result.Name);
            if (result.Value is null || result.ValueType != OnnxValueType.ONNX_TYPE_TENSOR)
                continue;
            var (type, shape, whole) = Seen(result);
            // A branch that was not taken shows nothing.
            if (lifted.ContainsKey(result.Name) && shape is [0])
                continue;
            Hold(result.Name, fact, type, shape, symbols);
            if (whole is not null && fact.Numbers is { } numbers)
            {
                Assert.Equal(numbers.Count, whole.Length);
                for (var i = 0; i < whole.Length; i++)
                    if (numbers[i].Value?.Evaluate(s => symbols.TryGetValue(s, out var v) ? v : null) is { } expected)
                        Assert.True(expected == whole[i], $"{result.Name}[{i}] is {whole[i]}, not {numbers[i].Value}");
            }
        }
        return results.Count;
    }

    /// <summary>The float outputs of a run on random inputs.</summary>
    public static IReadOnlyList<float[]> Run(ModelProto model, IReadOnlyList<(string Name, DataType Type, long[] Shape)> inputs, int seed)
    {
        using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
        using var session = new InferenceSession(model.ToByteArray(), options);
        using var results = session.Run([.. inputs.Select(i => Random(i, seed))]);
        return [.. results.Where(r => r.ElementType == TensorElementType.Float).Select(r => r.AsTensor<float>().ToArray())];
    }

    private static void Hold(string name, ValueFact fact, DataType? type, long[] shape, Dictionary<string, long> symbols)
    {
        if (type is not null && fact.Type != DataType.Undefined)
            Assert.True(fact.Type == type, $"{name} is {type}, not {fact.Type}");
        if (fact.Shape is null)
            return;
        Assert.True(fact.Shape.Count == shape.Length, $"{name} is [{string.Join(',', shape)}], not {fact}");
        for (var a = 0; a < shape.Length; a++)
        {
            if (fact.Shape[a].Name is { } symbol && symbols.TryAdd(symbol, shape[a]))
                continue;
            if (fact.Shape[a].Evaluate(s => symbols.TryGetValue(s, out var v) ? v : null) is { } expected)
                Assert.True(expected == shape[a], $"{name} is [{string.Join(',', shape)}], not {fact}");
        }
    }

    private static (DataType, long[], long[]?) Seen(DisposableNamedOnnxValue value)
    {
        return value.ElementType switch
        {
            TensorElementType.Float => Of<float>(DataType.Float, null),
            TensorElementType.Int64 => Of<long>(DataType.Int64, v => v),
            TensorElementType.Int32 => Of<int>(DataType.Int32, v => v),
            TensorElementType.Bool => Of<bool>(DataType.Bool, v => v ? 1 : 0),
            TensorElementType.Double => Of<double>(DataType.Double, null),
            TensorElementType.UInt8 => Of<byte>(DataType.Uint8, null),
            TensorElementType.Int8 => Of<sbyte>(DataType.Int8, null),
            _ => throw new NotSupportedException(value.ElementType.ToString()),
        };

        (DataType, long[], long[]?) Of<T>(DataType type, Func<T, long>? whole)
        {
            var tensor = value.AsTensor<T>();
            return (
                type,
                [.. tensor.Dimensions.ToArray().Select(d => (long)d)],
                whole is null ? null : [.. tensor.ToArray().Select(whole)]
            );
        }
    }

    private static NamedOnnxValue Random((string Name, DataType Type, long[] Shape) input, int seed)
    {
        var random = new Random(seed);
        var dims = input.Shape.Select(d => (int)d).ToArray();
        var count = (int)input.Shape.Aggregate(1L, (a, b) => a * b);
        return input.Type switch
        {
            DataType.Float => NamedOnnxValue.CreateFromTensor(
                input.Name,
                new DenseTensor<float>(Enumerable.Range(0, count).Select(_ => (float)random.NextDouble() - 0.5f).ToArray(), dims)
            ),
            DataType.Int64 => NamedOnnxValue.CreateFromTensor(
                input.Name,
                new DenseTensor<long>(Enumerable.Range(0, count).Select(_ => input.Name == "sr" ? 16000L : 1).ToArray(), dims)
            ),
            DataType.Bool => NamedOnnxValue.CreateFromTensor(
                input.Name,
                new DenseTensor<bool>(Enumerable.Range(0, count).Select(_ => random.Next(2) == 0).ToArray(), dims)
            ),
            _ => throw new NotSupportedException(input.Type.ToString()),
        };
    }
}
