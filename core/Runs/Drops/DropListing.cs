using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>What lies in a container for drops.</summary>
/// <param name="Drops">The drops.</param>
/// <param name="Misplaced">Models that cannot be drops where they lie.</param>
public sealed record DropListing(IReadOnlyList<StoredDrop> Drops, IReadOnlyList<MisplacedModel> Misplaced);

/// <summary>Models that cannot be a drop where they lie.</summary>
/// <param name="Root">Store path of the drop's place, <c>CONTAINER/NAME</c>.</param>
/// <param name="Why">Why not and what to do, in a sentence.</param>
/// <param name="Parts">Everything there, in its present version.</param>
public sealed record MisplacedModel(string Root, string Why, IReadOnlyList<Artifact> Parts)
{
    private const int Shown = 3;

    internal static MisplacedModel? Of(string root, IReadOnlyList<Artifact> parts)
    {
        var models = parts.Select(p => p.Path).Where(StoredDrop.IsModel).ToList();
        if (models.Count == 0)
            return null;
        var container = root.Split('/')[0];
        var file = StorePath.Name(models[0]);
        if (StorePath.WhyUnsafe(models[0]) is { } unsafePath)
            return Said($"{models[0]}: the path {unsafePath}; put the model at {container}/NAME.onnx or {container}/NAME/MODEL.onnx.");
        var inPlace = models.Where(m => StoredDrop.IsInPlace(root, m)).Select(StorePath.Name).ToList();
        if (inPlace.Count == 0)
            return Said(
                $"{models[0]}: the model lies too deep to be a drop; "
                    + $"put it at {container}/{file} or {root}/{file}, with the files that it names beside it."
            );
        var names = string.Join(", ", inPlace.Take(Shown)) + (inPlace.Count > Shown ? ", …" : "");
        return Said(
            $"{root}: the folder holds {inPlace.Count} .onnx files ({names}); "
                + "a drop holds exactly one, so put each into a folder of its own."
        );

        MisplacedModel Said(string why) => new(root, why, parts);
    }
}
