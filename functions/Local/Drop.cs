using Serverless.Core;
using Serverless.Core.Onnx;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>What was dropped: a model with its recipe and data, as store paths.</summary>
/// <param name="Name">The drop's name.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Recipe">Store path of the recipe, or null.</param>
/// <param name="Data">Store path of the data, or null.</param>
/// <param name="Source">The store it is in.</param>
/// <param name="Parts">Everything that belongs to it, or null for what the model, recipe and data name.</param>
internal sealed record Drop(string Name, string Model, string? Recipe, string? Data, StoreSpec Source, IReadOnlyList<Artifact>? Parts = null)
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

    /// <summary>The versions of everything in the drop; the run's id follows from them.</summary>
    /// <exception cref="BadInputException">The model is not whole.</exception>
    public async Task<IReadOnlyList<Artifact>> PartsAsync(IArtifactStore store, CancellationToken cancellation)
    {
        var index = await ModelIndexer.IndexAsync(store, Model, cancellation);
        if (Parts is not null) return Parts;
        var parts = new List<Artifact>();
        foreach (var path in index.Files.Values.Select(f => f.Path).Concat([Recipe, Data]).OfType<string>())
            if (await store.FindAsync(path, cancellation) is { } artifact) parts.Add(artifact);
        return parts;
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
