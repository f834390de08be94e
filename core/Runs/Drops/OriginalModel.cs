using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>Whether ONNX Runtime runs the model as it was dropped: if it does not, no step that failed on it is to blame.</summary>
internal static class OriginalModel
{
    /// <summary>Runs the original once.</summary>
    /// <param name="store">The store.</param>
    /// <param name="request">The run.</param>
    /// <param name="cancellation">Cancels the run.</param>
    /// <returns>What <see cref="Evaluate"/> would say of it; null when it runs.</returns>
    public static async Task<BadInputException?> WhyNotAsync(IArtifactStore store, RunRequest request, CancellationToken cancellation)
    {
        try
        {
            var versions = await store.ReadJsonAsync<Dictionary<string, string>>(RunPaths.Files(request.Work), cancellation);
            var index = await ModelIndexer.IndexAsync(store, request.Model, cancellation);
            var files = index.Files.ToDictionary(f => f.Key, f => versions.GetValueOrDefault(f.Value.Path));
            using var folder = await store.MaterializeAsync(index.Folder, files, cancellation);
            using var data = await Evaluate.OpenDataAsync(store, request, index, versions, cancellation);
            try
            {
                using var runner = new ModelRunner(folder.Path, index);
                var sample = data is not null
                    ? data.Read(0, cancellation).First()
                    : SyntheticSamples.Make(runner, index, 0, 1, cancellation).First();
                runner.Run([sample], cancellation);
                return null;
            }
            catch (Exception e) when (e is OnnxRuntimeException or TimeoutException)
            {
                return SyntheticSamples.CannotRun(index, e, data);
            }
        }
        catch (BadInputException e)
        {
            return e;
        }
    }
}
