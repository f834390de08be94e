using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Techniques.Simplification;

/// <summary>
/// Computes expressions of constants (<see cref="ConstantExpressions"/>) as ONNX Runtime would at load: what it folds there is a weight
/// here.
/// </summary>
internal static class ConstantFolding
{
    /// <summary>Computes expressions, one after the other, and puts constants in their place.</summary>
    /// <param name="work">The model.</param>
    /// <param name="edit">The edit of it.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>What was folded; an expression that ONNX Runtime does not compute, or whose results are larger than it, is left.</returns>
    public static async Task<IReadOnlyList<FoldedExpression>> ApplyAsync(GraphWork work, ModelEdit edit, CancellationToken cancellation)
    {
        var expressions = ConstantExpressions.Find(edit.Roots[0], cancellation);
        if (expressions.Count == 0)
            return [];
        work.RunsModel();
        using var folder = await work.MaterializeAsync(cancellation);
        var folded = new List<FoldedExpression>();
        var made = new List<(TensorProto Tensor, long Offset, long Length)>();
        var renamed = new List<(GraphScope Scope, TensorProto Old, TensorProto Kept)>();
        using (edit.Batch())
        {
            var location = await work.WriteAsync(
                async (stream, token) =>
                {
                    foreach (var expression in expressions)
                    {
                        token.ThrowIfCancellationRequested();
                        if (Compute(work.Model, folder.Path, expression) is not { } values)
                            continue;
                        if (!expression.Pays(values.Sum(v => (long)v.Bytes.Length)))
                            continue;
                        foreach (var (name, value) in expression.Results.Zip(values))
                        {
                            var tensor = new TensorProto { Name = name, DataType = (int)value.Type };
                            tensor.Dims.AddRange(value.Shape);
                            made.Add((tensor, stream.Position, value.Bytes.Length));
                            await stream.WriteAsync(value.Bytes, token);
                            expression.Scope.Graph!.Initializer.Add(tensor);
                            if (expression.Named is { } old)
                                renamed.Add((expression.Scope, expression.Constants.First(t => t.Name == old), tensor));
                        }
                        foreach (var node in expression.Nodes)
                            ModelEdit.Replace(expression.Scope, node, []);
                        folded.Add(
                            new FoldedExpression(
                                expression.Named ?? expression.Results[0],
                                [.. expression.Nodes.Select(n => n.OpType)],
                                DataTypes.Name((int)values[0].Type),
                                expression.Freed,
                                values.Sum(v => (long)v.Bytes.Length)
                            )
                        );
                    }
                },
                cancellation
            );
            foreach (var (tensor, offset, length) in made)
                TensorRef.Point(tensor, location, offset, length);
        }
        foreach (var together in renamed.GroupBy(r => r.Scope))
            Rename(together.Key, [.. together]);
        return folded;
    }

    // The weight's own name, by which recipes know it: what had it is gone.
    private static void Rename(GraphScope scope, IReadOnlyList<(GraphScope Scope, TensorProto Old, TensorProto Kept)> renamed)
    {
        var gone = renamed.Select(r => (object)r.Old).ToHashSet(ReferenceEqualityComparer.Instance);
        var kept = scope.Graph!.Initializer.Where(t => !gone.Contains(t)).ToList();
        scope.Graph.Initializer.Clear();
        scope.Graph.Initializer.AddRange(kept);
        // Where an inner scope hides the name, the constant stands under both.
        var stay = ModelEdit.Redirect(scope, renamed.ToDictionary(r => r.Kept.Name, r => r.Old.Name, StringComparer.Ordinal));
        scope.Graph.Initializer.AddRange(renamed.Where(r => stay.Contains(r.Kept.Name)).Select(r => r.Kept.Clone()));
        foreach (var (_, old, tensor) in renamed)
            tensor.Name = old.Name;
    }

    private static List<TensorValue>? Compute(ModelProto whole, string folder, ConstantExpression expression)
    {
        var part = new Segment(expression.Nodes, expression.Constants, [], expression.Results).ToModel(
            whole,
            new FunctionCalls(whole),
            n => new ValueInfoProto { Name = n }
        );
        try
        {
            using var session = ModelRunner.Open(part, folder);
            using var run = new RunOptions();
            using var made = session.Run(run, new Dictionary<string, OrtValue>(), expression.Results);
            var values = made.Select(OutputValue.Of).ToList();
            return values.All(v => ElementTypes.Size(v.Type) > 0 && v.Elements > 0) ? values : null;
        }
        catch (OnnxRuntimeException)
        {
            // The whole model says what is wrong with it when it is run.
            return null;
        }
    }
}
