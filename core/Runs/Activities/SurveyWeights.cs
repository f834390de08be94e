using Serverless.Core.Storage;
using Serverless.Core.Techniques;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="SurveyWeights"/>.</summary>
/// <param name="Request">The run.</param>
/// <param name="From">The first layer.</param>
/// <param name="Count">How many.</param>
public sealed record SurveyInput(RunRequest Request, int From, int Count);

/// <summary>How many layers were surveyed.</summary>
public sealed record WeightsSurveyed(int Layers);

/// <summary>Reads from the weights of some layers what steps have to know before their options are settled.</summary>
public sealed class SurveyWeights : Activity<SurveyInput, WeightsSurveyed>
{
    /// <summary>Layers that one activity reads.</summary>
    public const int Most = 20;

    /// <inheritdoc/>
    public override async Task<WeightsSurveyed> RunAsync(SurveyInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, state) = (context.Store, input.Request.State);
        var tasks = await LayerRecords.TasksAsync(store, input.Request.State, 0, input.From, input.Count, cancellation);
        var surveys = new List<IReadOnlyList<WeightSurvey?>>();
        foreach (var task in tasks)
        {
            await using var weight = await task.Data.OpenAsync(store, cancellation);
            var ofSteps = new List<WeightSurvey?>();
            foreach (var (step, _) in task.Chain)
                ofSteps.Add(
                    step.Layer.Units(step.Typed) == UnitKind.Weight
                        ? null
                        : await step.Layer.SurveyAsync(weight, task.Dims, task.Shape, step.Typed, cancellation)
                );
            surveys.Add(ofSteps);
        }
        await store.WriteJsonAsync(RunPaths.Surveys(state, input.From), surveys, cancellation);
        return new WeightsSurveyed(tasks.Count);
    }
}
