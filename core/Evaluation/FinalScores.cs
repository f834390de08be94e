using Serverless.Core.Model;
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
    private const int MostSteps = 8;

    /// <summary>What is before the Softmax, LogSoftmax or Sigmoid that makes each output; the output itself where there is none.</summary>
    public static IReadOnlyList<FinalScore> Of(ModelProto model)
    {
        var main = new GraphFacts(model).Main.Scope;
        return [.. model.Graph.Output.Select(o => Before(o.Name)).Distinct()];

        FinalScore Before(string output)
        {
            var name = output;
            for (var steps = 0; steps < MostSteps && main.Index.Producer(name) is { Domain: "", Input.Count: > 0 } producer; steps++)
            {
                name = producer.Input[0];
                if (producer.OpType == "Cast" || OperatorKinds.IsRearrangement(producer))
                    continue;
                if (producer.OpType == "Sigmoid")
                    return new FinalScore(name, null);
                if (producer.OpType is "Softmax" or "LogSoftmax")
                    return new FinalScore(name, producer.Attribute.FirstOrDefault(a => a.Name == "axis")?.I ?? (main.Opset < 13 ? 1 : -1));
                break;
            }
            return new FinalScore(output, null);
        }
    }
}
