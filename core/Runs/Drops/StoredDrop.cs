using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>A drop as it lies in a container: <c>NAME.onnx</c>, or what is under <c>NAME/</c>.</summary>
/// <param name="Name">The drop's name.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Recipe">Store path of <c>recipe.yaml</c>, or null.</param>
/// <param name="Data">Store path of <c>data.npz</c>, or null.</param>
/// <param name="Parts">Everything in the drop, in its present version.</param>
public sealed record StoredDrop(string Name, string Model, string? Recipe, string? Data, IReadOnlyList<Artifact> Parts)
{
    /// <summary>The container that models are dropped into.</summary>
    public const string Container = "drop";

    /// <summary>The container for models that were trained again; a drop there starts nothing by itself.</summary>
    public const string Retrained = "retrained";

    private const string Student = "student.onnx";

    /// <summary>Whether it is a folder, whose files may arrive one after another.</summary>
    public bool IsFolder => StorePath.Parent(Model).Contains('/');

    /// <summary>
    /// The drops in a container, and models that cannot be drops where they lie; a folder without a model is still arriving.
    /// </summary>
    public static async Task<DropListing> ListAsync(IArtifactStore store, string container, CancellationToken cancellation)
    {
        var (drops, misplaced) = (new List<StoredDrop>(), new List<MisplacedModel>());
        var blobs = new List<Artifact>();
        await foreach (var a in store.ListAsync(container + "/", cancellation))
            blobs.Add(a);
        foreach (var group in blobs.GroupBy(b => Root(b.Path) ?? b.Path))
        {
            if (Of(group.Key, [.. group]) is { } drop)
                drops.Add(drop);
            else if (MisplacedModel.Of(group.Key, [.. group]) is { } other)
                misplaced.Add(other);
        }
        return new DropListing(drops, misplaced);
    }

    /// <summary>The drop that a blob belongs to; null when it holds no model, or not exactly one.</summary>
    public static async Task<StoredDrop?> FindAsync(IArtifactStore store, string path, CancellationToken cancellation)
    {
        if (Root(path) is not { } root)
            return null;
        if (root == path)
            return await store.FindAsync(path, cancellation) is { } single ? Of(root, [single]) : null;
        var parts = new List<Artifact>();
        await foreach (var a in store.ListAsync(root + "/", cancellation))
            parts.Add(a);
        return Of(root, parts);
    }

    /// <summary>The models that cannot be a drop where a blob lies, or null when they can, or none is there.</summary>
    public static async Task<MisplacedModel?> FindMisplacedAsync(IArtifactStore store, string path, CancellationToken cancellation)
    {
        var root = Root(path) ?? path;
        var parts = new List<Artifact>();
        if (root == path)
            parts.Add(new Artifact(path, 0, ""));
        else
            await foreach (var a in store.ListAsync(root + "/", cancellation))
                parts.Add(a);
        return Of(root, parts) is null ? MisplacedModel.Of(root, parts) : null;
    }

    private static StoredDrop? Of(string root, IReadOnlyList<Artifact> parts)
    {
        var models = parts.Where(p => IsModel(p.Path) && IsInPlace(root, p.Path)).ToList();
        if (models.Count != 1 || Root(models[0].Path) is null)
            return null;
        var name = models[0].Path == root ? Path.GetFileNameWithoutExtension(root) : StorePath.Name(root);
        return new StoredDrop(name, models[0].Path, Beside("recipe.yaml"), Beside("data.npz"), parts);

        string? Beside(string file) => parts.FirstOrDefault(p => p.Path == $"{root}/{file}")?.Path;
    }

    // CONTAINER/NAME.onnx, or CONTAINER/NAME of what lies under it.
    private static string? Root(string path) =>
        path.Split('/') is [var container, var name, ..] && name.Length > 0 ? $"{container}/{name}" : null;

    internal static bool IsInPlace(string root, string path) => path == root || StorePath.Parent(path) == root;

    internal static bool IsModel(string path) =>
        path.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase) && StorePath.Name(path) != Student;
}
