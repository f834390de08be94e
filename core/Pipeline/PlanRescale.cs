using Serverless.Core.Onnx.Schema;
using Serverless.Core.Storage;
using Serverless.Core.Techniques;
using Serverless.Core.Techniques.Calibration;
using Serverless.Core.Techniques.Scaling;

namespace Serverless.Core.Pipeline;

/// <summary>Values to observe before channels are scaled.</summary>
public sealed record RescalePlanned(int Observations);

/// <summary>Puts the tidied graph aside, where <see cref="Rescale"/> takes it from, and says what is to be observed of it.</summary>
public sealed class PlanRescale : Activity<PlanInput, RescalePlanned>
{
    /// <inheritdoc/>
    public override async Task<RescalePlanned> RunAsync(PlanInput input, ActivityContext context, CancellationToken cancellation)
    {
        var (store, request) = (context.Store, input.Request);
        var before = Before(request);
        var recipe = await Inspect.RecipeOf(store, request, cancellation);
        var graph = await store.ReadBytesAsync(RunNames.Graph(request.Work), int.MaxValue, cancellation);
        foreach (var name in new Func<string, string>[] { RunNames.Graph, RunNames.Files, RunNames.Recipe, RunNames.Normalized })
            if (name != RunNames.Recipe || request.Recipe is not null)
                await store.WriteBytesAsync(
                    name(before.Work),
                    await store.ReadBytesAsync(name(request.Work), int.MaxValue, cancellation),
                    cancellation
                );
        if (recipe.Find<SmoothingOptions>() is not { } smooth)
            return new RescalePlanned(0);
        var observations = ChannelScaling
            .Of(ModelProto.Parser.ParseFrom(graph))
            .Select((v, i) => new Observation(i, [View(v)], Statistics.Channels))
            .ToList();
        await store.WriteJsonAsync(
            RunNames.Calibration(before.Work),
            new Calibration(observations, smooth.Samples, 0, 0, ""),
            cancellation
        );
        return new RescalePlanned(observations.Count);
    }

    /// <summary>The run with the graph as it is before channels are scaled.</summary>
    internal static RunRequest Before(RunRequest request) => request with { Work = $"{request.Work}/unscaled" };

    // Seen as the layer that takes it sees it.
    private static InputView View(ChannelScaling value) => InputView.Of(value.First, LayerShape.Of(value.First)).Views[0];
}
