using Serverless.Core.Evaluation;
using Serverless.Core.Execution;
using Serverless.Core.Model;
using Serverless.Core.Storage;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>A model that pruning is measured on. Every result is compared on the second half of the samples, which no step sees.</summary>
/// <param name="Name">What tables call it.</param>
/// <param name="File">The <c>.onnx</c>.</param>
/// <param name="Data">Its samples, an <c>.npz</c>.</param>
/// <param name="Samples">How many.</param>
internal sealed record PruningModel(string Name, string File, string Data, int Samples)
{
    private const int Seed = 11,
        Lines = 256,
        Pictures = 96,
        Digits = 400,
        Fashion = 2000;

    private TextAccuracy? text;
    private double? read;

    /// <summary>The models that can be had here, the fastest first.</summary>
    /// <param name="folder">Receives their samples.</param>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash to leave it out.</param>
    /// <param name="detector">The detector's, or a dash.</param>
    /// <param name="names">Names of the models that are wanted; none means all.</param>
    public static IEnumerable<PruningModel> Of(string folder, string recogniser, string detector, IReadOnlyCollection<string> names)
    {
        var root = ModelPackages.Repository;
        if (Wanted("digits"))
            yield return new("digits", Sample(root, "digits", "digits.onnx"), Sample(root, "digits", "data.npz"), Digits);
        if (Wanted("lenet"))
        {
            // More pictures than the repository holds, where the data set is installed.
            var data = FashionMnist.IsThere
                ? FashionMnist.Test.WriteNpz(Path.Combine(folder, "fashion.npz"), Fashion)
                : Sample(root, "lenet", "data.npz");
            var count = FashionMnist.IsThere ? Fashion : FashionMnist.Kept;
            yield return new("lenet", Sample(root, "lenet", "lenet.onnx"), data, count);
        }
        if (Wanted("minilm") && MiniLm.Fetch(root) is { } transformer)
            yield return new(
                "minilm",
                Path.Combine(transformer, "model.onnx"),
                MiniLm.WriteNpz(Path.Combine(folder, "text.npz"), root, Lines, 64),
                Lines
            );
        if (Wanted("recogniser") && recogniser != "-")
            yield return new("recogniser", recogniser, TextLines.WriteNpz(Path.Combine(folder, "lines.npz"), "x", Seed, Lines), Lines)
            {
                text = new TextAccuracy(Path.Combine(Path.GetDirectoryName(recogniser)!, "ppocr_keys_v1.txt")),
            };
        if (Wanted("detector") && detector != "-")
            yield return new(
                "detector",
                detector,
                TextLines.WriteNpz(Path.Combine(folder, "pictures.npz"), "x", Seed, Pictures, width: 320, height: 96),
                Pictures
            );

        bool Wanted(string name) => names.Count == 0 || names.Contains(name);
    }

    /// <summary>Prints a table of each model.</summary>
    /// <param name="table">Names the folder of the samples.</param>
    /// <param name="recogniser">The recogniser's <c>.onnx</c>, or a dash.</param>
    /// <param name="detector">The detector's, or a dash.</param>
    /// <param name="words">Models by name, and rows; the others are all.</param>
    /// <param name="rows">Rows where no word is one.</param>
    /// <param name="printAsync">Prints the rows of a model; may write into the folder.</param>
    public static async Task<int> EachAsync(
        string table,
        string recogniser,
        string detector,
        string[] words,
        string[] rows,
        Func<PruningModel, string[], string, Task> printAsync
    )
    {
        var folder = Directory.CreateTempSubdirectory($"serverless-{table}-").FullName;
        try
        {
            string[] given = [.. words.Where(w => !IsName(w))];
            foreach (var model in Of(folder, recogniser, detector, [.. words.Where(IsName)]))
                await printAsync(model, given.Length > 0 ? given : rows, folder);
            return 0;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static bool IsName(string word) => word is "digits" or "lenet" or "minilm" or "recogniser" or "detector";

    /// <summary>Compares a result with the model on the second half of the samples.</summary>
    /// <param name="file">The result.</param>
    public async Task<ComparisonResult> CompareAsync(string file)
    {
        var (before, after) = (await IndexAsync(File), await IndexAsync(file));
        using var stream = System.IO.File.OpenRead(Data);
        using var samples = new NpzData(stream, Data, InputSpec.Of(before.Model, File));
        var options = new ComparisonOptions(TimeSpan.FromMinutes(5)) { Latency = false };
        var (from, to) = (Path.GetDirectoryName(Path.GetFullPath(File))!, Path.GetDirectoryName(file)!);
        return Comparison.Compare(from, before, to, after, samples, Samples / 2, options, default);
    }

    /// <summary>Accuracy by labels, or of the text read, before and after; null where neither is known.</summary>
    /// <param name="file">The result.</param>
    /// <param name="compared">Its comparison.</param>
    public (double Before, double After)? Accuracy(string file, ComparisonResult compared)
    {
        if (compared is { AccuracyBefore: { } before, AccuracyAfter: { } after })
            return (before, after);
        var unseen = Enumerable.Range(Samples / 2, Samples / 2).ToList();
        return text is null ? null : (read ??= text.Of(File, Seed, unseen), text.Of(file, Seed, unseen));
    }

    private static string Sample(string root, string name, string file) => Path.Combine(root, "tests", "models", name, file);

    private static Task<ModelIndex> IndexAsync(string file)
    {
        var store = new FolderStore(new Dictionary<string, string> { ["m"] = Path.GetDirectoryName(Path.GetFullPath(file))! });
        return ModelIndexer.IndexAsync(store, $"m/{Path.GetFileName(file)}", default);
    }
}
