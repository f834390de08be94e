using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// Writes samples for the real models that tests run on, for runs by hand: lines of text for the recogniser, pictures of text for the
/// detector, sentences for MiniLM. <c>data FOLDER</c>.
/// </summary>
internal static class SampleData
{
    private const int Seed = 5,
        Lines = 256,
        Pictures = 96;

    /// <summary>Writes <c>lines.npz</c>, <c>pictures.npz</c> and <c>text.npz</c>.</summary>
    public static int Run(string folder)
    {
        Directory.CreateDirectory(folder);
        TextLines.WriteNpz(Path.Combine(folder, "lines.npz"), "x", Seed, Lines);
        TextLines.WriteNpz(Path.Combine(folder, "pictures.npz"), "x", Seed, Pictures, width: 320, height: 96);
        var at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Serverless.sln")))
            at = Path.GetDirectoryName(at)!;
        if (MiniLm.Fetch(at) is not null)
            MiniLm.WriteNpz(Path.Combine(folder, "text.npz"), at, Lines, 64);
        return 0;
    }
}
