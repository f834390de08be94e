using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;
using Xunit;

namespace Serverless.Infra.Tests;

/// <summary>The templates, by the real Bicep compiler.</summary>
public partial class BicepTests
{
    private static readonly string Infra = Path.Combine(Metadata("Repository"), "infra");

    // All templates by one start of the compiler.
    private static readonly Lazy<Task<(string Folder, (int ExitCode, string Output, string Error) Ended)>> Built = new(async () =>
    {
        var folder = Directory.CreateTempSubdirectory("serverless-bicep-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        return (folder, await BicepAsync("build", "--pattern", "**/*.bicep", "--outdir", folder));
    });

    private static IReadOnlyList<string> Templates =>
        [.. Directory.GetFiles(Infra, "*.bicep", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Infra, f))];

    public static TheoryData<string> Parameters => [.. Directory.GetFiles(Infra, "*.bicepparam").Select(f => Path.GetFileName(f)!).Order()];

    [Fact]
    public async Task Every_template_builds_and_lints_without_a_word()
    {
        var (folder, build) = await Built.Value;
        Assert.Equal((0, "", ""), (build.ExitCode, build.Error, build.Output));
        Assert.NotEmpty(Templates);
        Assert.All(Templates, t => Assert.True(File.Exists(Path.Combine(folder, Path.ChangeExtension(t, ".json"))), t));
        var lint = await BicepAsync("lint", "--pattern", "**/*.bicep");
        Assert.Equal((0, "", ""), (lint.ExitCode, lint.Error, lint.Output));
    }

    [Theory]
    [MemberData(nameof(Parameters))]
    public async Task Sample_parameters_fit_the_template(string file)
    {
        var built = await BicepAsync("build-params", file, "--stdout");
        Assert.Equal((0, ""), (built.ExitCode, built.Error));
        Assert.Contains("parametersJson", built.Output);
    }

    [Fact]
    public async Task No_key_or_secret_is_anywhere()
    {
        var template = await MainAsync();
        foreach (
            var word in new[]
            {
                "listKeys",
                "listAccountSas",
                "listCredentials",
                "listSecrets",
                "AccountKey=",
                "SharedAccessSignature",
                "\"securestring\"",
                "adminUserEnabled\": true",
            }
        )
            Assert.DoesNotContain(word, template, StringComparison.OrdinalIgnoreCase);
        using var json = JsonDocument.Parse(template);
        foreach (
            var account in Resources(json.RootElement)
                .Where(r =>
                    r.GetProperty("type").GetString() == "Microsoft.Storage/storageAccounts" && r.TryGetProperty("properties", out _)
                )
        )
            Assert.False(account.GetProperty("properties").GetProperty("allowSharedKeyAccess").GetBoolean());
    }

    [Fact]
    public async Task What_the_docs_say_is_created_is_what_the_template_creates()
    {
        using var json = JsonDocument.Parse(await MainAsync());
        var created = Resources(json.RootElement)
            .Where(r => !r.TryGetProperty("existing", out var e) || !e.GetBoolean())
            .Select(r => r.GetProperty("type").GetString()!)
            .Where(t => t != "Microsoft.Resources/deployments")
            .Distinct()
            .Order()
            .ToList();
        var said = TableRow()
            .Matches(await File.ReadAllTextAsync(Path.Combine(Infra, "README.md")))
            .Select(m => m.Groups[1].Value)
            .Order()
            .ToList();
        Assert.Equal(created, said);
    }

    [Fact]
    public async Task The_app_reads_each_setting_that_is_given_to_it()
    {
        var given = Setting()
            .Matches(await File.ReadAllTextAsync(Path.Combine(Infra, "modules", "functions.bicep")))
            .Select(m => m.Groups[1].Value)
            .Distinct();
        var sample = await File.ReadAllTextAsync(Path.Combine(Infra, "..", "local.settings.sample.json"));
        var code = string.Concat(
            Directory
                .EnumerateFiles(Path.Combine(Infra, "..", "functions", "App"), "*.cs")
                .Concat(Directory.EnumerateFiles(Path.Combine(Infra, "..", "core", "Events"), "*.cs"))
                .Select(File.ReadAllText)
        );
        Assert.NotEmpty(given);
        Assert.All(given, name => Assert.Contains($"\"{name}\"", code));
        Assert.All(given, name => Assert.Contains($"\"{name}\"", sample));
    }

    private static IEnumerable<JsonElement> Resources(JsonElement template)
    {
        if (!template.TryGetProperty("resources", out var resources))
            yield break;
        foreach (
            var r in resources.ValueKind == JsonValueKind.Array
                ? resources.EnumerateArray()
                : resources.EnumerateObject().Select(p => p.Value)
        )
        {
            yield return r;
            if (r.GetProperty("type").GetString() == "Microsoft.Resources/deployments")
                foreach (var inner in Resources(r.GetProperty("properties").GetProperty("template")))
                    yield return inner;
        }
    }

    private static async Task<string> MainAsync() => await File.ReadAllTextAsync(Path.Combine((await Built.Value).Folder, "main.json"));

    private static async Task<(int ExitCode, string Output, string Error)> BicepAsync(params string[] arguments)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the compiler's package is for Linux.");
        var program = Metadata("Bicep");
        if (OperatingSystem.IsLinux())
            File.SetUnixFileMode(program, File.GetUnixFileMode(program) | UnixFileMode.UserExecute);
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = Infra,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1";
        using var bicep = Process.Start(start)!;
        var (output, error) = (bicep.StandardOutput.ReadToEndAsync(), bicep.StandardError.ReadToEndAsync());
        await bicep.WaitForExitAsync();
        return (bicep.ExitCode, await output, await error);
    }

    private static string Metadata(string key) =>
        typeof(BicepTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == key).Value!;

    [GeneratedRegex(@"^\| `(Microsoft\.[A-Za-z./]+)`", RegexOptions.Multiline)]
    private static partial Regex TableRow();

    [GeneratedRegex("^  (SERVERLESS_[A-Z_]+?)(?:__|:)", RegexOptions.Multiline)]
    private static partial Regex Setting();
}
