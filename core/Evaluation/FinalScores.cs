using Serverless.Core.Model.Schema;

namespace Serverless.Core.Evaluation;

/// <summary>A value from which a model output follows.</summary>
/// <param name="Value">Its name in the main graph.</param>
/// <param name="Softmax">Axis of the softmax that follows, to which adding the same to all classes means nothing; null without one.</param>
internal sealed record FinalScore(string Value, long? Softmax);

/// <summary>
/// The scores (logits) that a model's outputs are squashed from. A sample that the model is sure about hardly moves its
/// probabilities, whatever becomes of a layer; its scores tell all the same, so that few samples do.
/// </summary>
internal static class FinalScores
{
    private static readonly HashSet<string> Layout = ["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Cast"];
    private const int MostSteps = 8;

    /// <summary>What is before the Softmax, LogSoftmax or Sigmoid that makes each output; the output itself where there is none.</summary>
    public static IReadOnlyList<FinalScore> Of(ModelProto model)
    {
        var producers = new Dictionary<string, NodeProto>(StringComparer.Ordinal);
        foreach (var node in model.Graph.Node)
        foreach (var output in node.Output)
            producers[output] = node;
        var opset = model.OpsetImport.LastOrDefault(o => o.Domain is "" or "ai.onnx")?.Version ?? 1;
        return [.. model.Graph.Output.Select(o => Before(o.Name)).Distinct()];

        FinalScore Before(string output)
        {
            var name = output;
            for (
                var steps = 0;
                steps < MostSteps
                    && producers.TryGetValue(name, out var producer)
                    && producer.Domain.Length == 0
                    && producer.Input.Count > 0;
                steps++
            )
            {
                name = producer.Input[0];
                if (Layout.Contains(producer.OpType))
                    continue;
                if (producer.OpType == "Sigmoid")
                    return new FinalScore(name, null);
                if (producer.OpType is "Softmax" or "LogSoftmax")
                    return new FinalScore(name, producer.Attribute.FirstOrDefault(a => a.Name == "axis")?.I ?? (opset < 13 ? 1 : -1));
                break;
            }
            return new FinalScore(output, null);
        }
    }
}
