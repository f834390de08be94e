using Serverless.Core;
using Serverless.Core.Pipeline;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>What was dropped: a model with its recipe and data, as store paths.</summary>
/// <param name="Name">The drop's name.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Recipe">Store path of the recipe, or null.</param>
/// <param name="Data">Store path of the data, or null.</param>
/// <param name="Source">The store it is in.</param>
internal sealed record Drop(string Name, string Model, string? Recipe, string? Data, StoreSpec Source)
{
    private const string Student = "student.onnx";

    /// <summary>Finds what a path means: an <c>.onnx</c> file, or a folder that holds one.</summary>
    /// <exception cref="BadInputException">Nothing to compress is there.</exception>
    public static Drop Of(string path, string? recipe, string? data)
    {
        var containers = new Dictionary<string, string>();
        string name, model;
        if (Directory.Exists(path))
        {
            var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
            var models = Directory.GetFiles(full, "*.onnx").Select(Path.GetFileName).Where(f => f != Student).ToList();
            if (models.Count != 1) throw new BadInputException($"{path}: the folder holds {(models.Count == 0 ? "no" : "more than one")} .onnx file; a drop holds exactly one (beside {Student}).");
            (name, model) = (Path.GetFileName(full), models[0]!);
            containers["drop"] = full;
            recipe ??= Beside(full, "recipe.yaml");
            data ??= Beside(full, "data.npz");
        }
        else
        {
            if (!File.Exists(path)) throw new BadInputException($"{path}: there is no such file or folder; give an .onnx file or a folder that holds one.");
            var full = Path.GetFullPath(path);
            if (!full.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase)) throw new BadInputException($"{path}: not an .onnx file; give an ONNX model, or a folder that holds one.");
            (name, model) = (Path.GetFileNameWithoutExtension(full), Path.GetFileName(full));
            containers["drop"] = Path.GetDirectoryName(full)!;
        }
        return new Drop(name, $"drop/{model}", Extra(containers, "recipe", recipe), Extra(containers, "data", data), new StoreSpec(containers));
    }

    /// <summary>Finds the drops in the container <c>drop</c> of a store: <c>NAME.onnx</c>, or what is under <c>NAME/</c>.</summary>
    public static async Task<IReadOnlyList<(Drop Drop, string State)>> InAsync(StoreSpec spec, IArtifactStore store, CancellationToken cancellation)
    {
        var blobs = new List<Artifact>();
        await foreach (var a in store.ListAsync("drop/", cancellation)) blobs.Add(a);
        var found = new List<(Drop, string)>();
        foreach (var model in blobs.Where(b => b.Path.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase) && StorePath.Name(b.Path) != Student))
        {
            var folder = StorePath.Parent(model.Path);
            var single = folder == "drop";
            var around = single ? [model] : blobs.Where(b => b.Path.StartsWith(folder + "/", StringComparison.Ordinal)).ToList();
            if (!single && (StorePath.Parent(folder) != "drop" || around.Count(b => b.Path.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase) && StorePath.Name(b.Path) != Student) != 1)) continue;
            var name = single ? Path.GetFileNameWithoutExtension(model.Path) : StorePath.Name(folder);
            found.Add((new Drop(name, model.Path, Beside("recipe.yaml"), Beside("data.npz"), spec), string.Join('|', around.Select(b => $"{b.Path}:{b.ETag}"))));

            string? Beside(string file) => single ? null : around.FirstOrDefault(b => b.Path == $"{folder}/{file}")?.Path;
        }
        return found;
    }

    /// <summary>The versions of everything in the drop, for the run's id.</summary>
    public async Task<string> RunIdAsync(IArtifactStore store, IEnumerable<string> modelFiles, CancellationToken cancellation)
    {
        var parts = new List<Artifact>();
        foreach (var path in modelFiles.Concat([Recipe, Data]).OfType<string>())
            if (await store.FindAsync(path, cancellation) is { } artifact) parts.Add(artifact);
        return RunNames.Id(Name, parts);
    }

    private static string? Beside(string folder, string file) => File.Exists(Path.Combine(folder, file)) ? Path.Combine(folder, file) : null;

    private static string? Extra(Dictionary<string, string> containers, string container, string? file)
    {
        if (file is null) return null;
        if (!File.Exists(file)) throw new BadInputException($"{file}: there is no such file; check the path.");
        containers[container] = Path.GetDirectoryName(Path.GetFullPath(file))!;
        return $"{container}/{Path.GetFileName(file)}";
    }
}
