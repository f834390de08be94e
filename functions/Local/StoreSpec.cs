using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Which store to use, in a form that another process can be told.</summary>
/// <param name="Folders">Container → directory; ignored with <paramref name="Storage"/>.</param>
/// <param name="Storage">Account URL or connection string of blob storage, or null for folders.</param>
internal sealed record StoreSpec(IReadOnlyDictionary<string, string> Folders, string? Storage = null)
{
    /// <summary>Opens the store.</summary>
    public IArtifactStore Open() => Storage is { } s ? BlobStore.Connect(s) : new FolderStore(Folders);

    /// <summary>The same with more containers, where they are folders.</summary>
    public StoreSpec With(params (string Container, string Directory)[] more)
    {
        var folders = Folders.ToDictionary();
        foreach (var (container, directory) in more) folders[container] = directory;
        return this with { Folders = folders };
    }
}
