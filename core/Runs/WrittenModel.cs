using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>A model written to the work folder for as long as something is done with it, its files where ONNX Runtime opens them.</summary>
internal sealed class WrittenModel : IAsyncDisposable
{
    private readonly IArtifactStore store;
    private readonly LocalFolder folder;

    private WrittenModel(IArtifactStore store, ModelIndex index, LocalFolder folder) =>
        (this.store, Index, this.folder) = (store, index, folder);

    /// <summary>The model as it was written.</summary>
    public ModelIndex Index { get; }

    /// <summary>Folder of its files on this machine.</summary>
    public string Folder => folder.Path;

    /// <summary>Writes a model.</summary>
    /// <param name="store">The store.</param>
    /// <param name="model">The model; its weights may be byte ranges of the store.</param>
    /// <param name="source">Store path that the weights' files are relative to.</param>
    /// <param name="etags">Versions of those files.</param>
    /// <param name="target">Store path of the folder to write to.</param>
    /// <param name="inline">Bytes up to which weights go into the model's own file.</param>
    /// <param name="cancellation">Cancels the writing.</param>
    public static async Task<WrittenModel> WriteAsync(
        IArtifactStore store,
        ModelProto model,
        string source,
        IReadOnlyDictionary<string, string> etags,
        string target,
        long inline,
        CancellationToken cancellation
    )
    {
        await ModelWriter.WriteAsync(store, model, source, etags, target, inline, cancellation);
        var index = await ModelIndexer.IndexAsync(store, $"{target}/{ModelWriter.ModelName}", cancellation);
        return new WrittenModel(
            store,
            index,
            await store.MaterializeAsync(target, index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag), cancellation)
        );
    }

    /// <summary>Deletes it.</summary>
    public async ValueTask DisposeAsync()
    {
        folder.Dispose();
        foreach (var file in Index.Files.Values)
            await store.DeleteAsync(file.Path, CancellationToken.None);
    }
}
