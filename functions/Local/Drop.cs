using System.Text.RegularExpressions;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>What was dropped: a model with its recipe and data, as store paths.</summary>
/// <param name="Name">The drop's name.</param>
/// <param name="Model">Store path of the model.</param>
/// <param name="Recipe">Store path of the recipe, or null.</param>
/// <param name="Data">Store path of the data, or null.</param>
/// <param name="Source">The store it is in.</param>
/// <param name="Parts">Everything that belongs to it, or null for what the model, recipe and data name.</param>
internal sealed record Drop(
    string Name,
    string Model,
    string? Recipe,
    string? Data,
    StoreSpec Source,
    IReadOnlyList<Artifact>? Parts = null
)
{
    private const string Student = "student.onnx",
        ModelEnd = ".onnx",
        Folder = "drop/";

    // The store's names of the files, and of the folder at the beginning of a sentence, with the user's.
    private IReadOnlyDictionary<string, string> Given { get; init; } = new Dictionary<string, string>();

    /// <summary>A sentence about the drop with paths as the user gave them.</summary>
    /// <param name="sentence">It begins with a store path, or has one of the recipe, the data or the model elsewhere.</param>
    public string Shown(string sentence)
    {
        if (Given.Count == 0)
            return sentence;
        var files = Given.Keys.Where(k => k != Folder).Select(Regex.Escape);
        return Regex.Replace(sentence, $@"(?<![\w./\\-])(?:{string.Join('|', files)})(?![\w/\\-])|^{Folder}", m => Given[m.Value]);
    }

    /// <summary>Does work on the drop; what it refuses is named as the user named it.</summary>
    /// <param name="work">The work.</param>
    /// <exception cref="BadInputException">The drop is wrong.</exception>
    public async Task<int> RunAsync(Func<Task<int>> work)
    {
        try
        {
            return await work();
        }
        catch (BadInputException e) when (Shown(e.Message) is var shown && shown != e.Message)
        {
            throw new BadInputException(shown, e);
        }
    }

    /// <summary>Finds what a path means: an <c>.onnx</c> file, or a folder that holds one.</summary>
    /// <param name="path">The file or folder. A link is what the user means who names it; what it holds stays inside.</param>
    /// <param name="recipe">A recipe that the user names, or null for the folder's.</param>
    /// <param name="data">Data that the user names, or null for the folder's.</param>
    /// <exception cref="BadInputException">Nothing to compress is there.</exception>
    public static Drop Of(string path, string? recipe, string? data)
    {
        var (drop, full) = Find(path, follow: true);
        drop.Add("recipe", recipe, full, "recipe.yaml");
        drop.Add("data", data, full, "data.npz");
        return drop.Made([drop.Model]);
    }

    /// <summary>
    /// The same for what lies in a watched folder, where whoever drops something may be anyone: no link is followed out of it.
    /// </summary>
    /// <param name="path">The file or folder.</param>
    /// <param name="recipe">The recipe for drops without one, or null.</param>
    /// <exception cref="BadInputException">Nothing to compress is there.</exception>
    public static Drop OfWatched(string path, string? recipe)
    {
        var (drop, full) = Find(path, follow: false);
        drop.Add("recipe", full is not null && IsThere(full, "recipe.yaml") ? null : recipe, full, "recipe.yaml");
        drop.Add("data", null, full, "data.npz");
        return drop.Made([]);
    }

    /// <summary>The versions of everything in the drop; the run's id follows from them.</summary>
    /// <exception cref="BadInputException">The model is not whole.</exception>
    public async Task<IReadOnlyList<Artifact>> PartsAsync(IArtifactStore store, CancellationToken cancellation)
    {
        var index = await ModelIndexer.IndexAsync(store, Model, cancellation);
        if (Parts is not null)
            return Parts;
        var parts = new List<Artifact>();
        foreach (var path in index.Files.Values.Select(f => f.Path).Concat([Recipe, Data]).OfType<string>())
            if (await store.FindAsync(path, cancellation) is { } artifact)
                parts.Add(artifact);
        return parts;
    }

    // The folder is null for a model by itself, which takes no recipe and data from beside it.
    private static (Found Drop, string? Folder) Find(string path, bool follow)
    {
        if (path.Trim().Length == 0 || path.Contains('\0'))
            throw new BadInputException($"\"{path}\": names nothing; give an .onnx file or a folder that holds one.");
        var found = FileIdentity.Of(path, follow);
        if (found.Loops)
            throw new BadInputException($"{path}: its links lead round in a circle; give the file itself.");
        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        if (found.Kind == FileKind.Folder)
        {
            var models = ModelsIn(path, full);
            if (models.Count != 1)
                throw new BadInputException(
                    $"{path}: the folder holds {(models.Count == 0 ? "no" : "more than one")} .onnx file; "
                        + $"a drop holds exactly one (beside {Student})."
                );
            return (new Found(Path.GetFileName(full), $"{Folder}{models[0]}", full, path), full);
        }
        if (found.Kind == FileKind.Absent && path.Contains('\uFFFD'))
            throw new BadInputException($"{path}: the name is not UTF-8; rename it.");
        if (found.Kind == FileKind.Absent)
            throw new BadInputException(
                $"{path}: there is no such file or folder{Why(found)}; " + $"give an .onnx file or a folder that holds one."
            );
        if (found.Kind == FileKind.Special)
            throw new BadInputException($"{path}: is a pipe, a socket or a device; only regular files are read.");
        if (!full.EndsWith(ModelEnd, StringComparison.OrdinalIgnoreCase))
            throw new BadInputException(
                found.Kind == FileKind.Link
                    ? $"{path}: a link to what is no .onnx file; copy the model, or its folder, in place of the link."
                    : $"{path}: not an .onnx file; give an ONNX model, or a folder that holds one."
            );
        return (
            new Found(
                Path.GetFileNameWithoutExtension(full),
                $"{Folder}{Path.GetFileName(full)}",
                Path.GetDirectoryName(full)!,
                Path.GetDirectoryName(path)!
            ),
            null
        );
    }

    private static List<string> ModelsIn(string path, string full)
    {
        try
        {
            return
            [
                .. Directory
                    .GetFiles(
                        full,
                        "*" + ModelEnd,
                        new EnumerationOptions
                        {
                            MatchCasing = MatchCasing.CaseInsensitive,
                            IgnoreInaccessible = false,
                            AttributesToSkip = FileAttributes.None,
                        }
                    )
                    .Select(f => Path.GetFileName(f)!)
                    .Where(f => f != Student),
            ];
        }
        catch (UnauthorizedAccessException e)
        {
            throw new BadInputException($"{path}: the folder may not be looked into; check its permissions.", e);
        }
    }

    private static string Why(FileIdentity found) =>
        found.Error switch
        {
            13 => ", or it may not be looked at",
            36 => " (the name is too long for this file system)",
            _ => "",
        };

    // A link counts, wherever it leads: whether that is allowed is said when it is opened.
    private static bool IsThere(string folder, string file) =>
        FileIdentity.Of(Path.Combine(folder, file), follow: false).Kind != FileKind.Absent;

    private sealed class Found(string name, string model, string root, string given)
    {
        private readonly Dictionary<string, string> containers = new() { ["drop"] = root },
            extra = [],
            named = [];

        public string Model => model;

        // What the user names, or what lies beside the model.
        public void Add(string kind, string? named, string? folder, string file)
        {
            if (named is null)
            {
                if (folder is not null && IsThere(folder, file))
                    extra[kind] = $"{Folder}{file}";
                return;
            }
            var found = FileIdentity.Of(named);
            if (found.Loops)
                throw new BadInputException($"{named}: its links lead round in a circle; give the file itself.");
            if (found.Kind == FileKind.Absent)
                throw new BadInputException($"{named}: there is no such file{Why(found)}; check the path.");
            if (found.Kind != FileKind.Regular)
                throw new BadInputException(
                    $"{named}: is {(found.Kind == FileKind.Folder ? "a folder" : "a pipe, a socket or a device")}; "
                        + "only regular files are read."
                );
            containers[kind] = Path.GetDirectoryName(Path.GetFullPath(named))!;
            extra[kind] = $"{kind}/{Path.GetFileName(named)}";
            this.named[extra[kind]] = named;
        }

        public Drop Made(IEnumerable<string> followed) =>
            new(
                name,
                model,
                extra.GetValueOrDefault("recipe"),
                extra.GetValueOrDefault("data"),
                new StoreSpec(containers) { Followed = [.. followed, .. named.Keys] }
            )
            {
                Given = new Dictionary<string, string>(named)
                {
                    [model] = Path.Combine(given, StorePath.Name(model)),
                    [Folder] = given.Length == 0 || Path.EndsInDirectorySeparator(given) ? given : $"{given}/",
                },
            };
    }
}
