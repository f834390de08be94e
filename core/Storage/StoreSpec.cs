namespace Serverless.Core.Storage;

/// <summary>Which store to use, in a form that another process can be told.</summary>
/// <param name="Folders">Container → directory; ignored with <paramref name="Storage"/>.</param>
/// <param name="Storage">Account URL or connection string of blob storage, or null for folders.</param>
public sealed record StoreSpec(IReadOnlyDictionary<string, string> Folders, string? Storage = null)
{
    /// <summary>Store paths that the user named himself: a link there may lead out of its container.</summary>
    public IReadOnlyCollection<string> Followed { get; init; } = [];

    /// <summary>A store in blob storage.</summary>
    public static StoreSpec Of(string storage) => new(new Dictionary<string, string>(), storage);

    /// <summary>
    /// Opens the store. Blob storage guards its objects against damage itself; those in folders get a <see cref="ChecksummedStore"/>.
    /// </summary>
    /// <exception cref="BadInputException"><see cref="Storage"/> is neither a URL nor a connection string.</exception>
    public IArtifactStore Open()
    {
        if (Storage is { } s)
            return BlobStore.Connect(s);
        var folders = new FolderStore(Folders, Followed);
        return Folders.ContainsKey(ChecksummedStore.Container) ? new ChecksummedStore(folders) : folders;
    }

    /// <summary>The same with more containers, where they are folders.</summary>
    public StoreSpec With(params (string Container, string Directory)[] more)
    {
        var folders = Folders.ToDictionary();
        foreach (var (container, directory) in more)
            folders[container] = directory;
        return this with { Folders = folders };
    }

    /// <summary>Says which folders; a connection string holds a key and is not shown.</summary>
    public override string ToString() => Storage is null ? $"folders {string.Join(", ", Folders.Keys)}" : "blob storage";
}
