using System.Text.RegularExpressions;
using Serverless.Core.Runs;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>functions/App read as text, so that it is checked where the Functions packages cannot be had.</summary>
public partial class HostWrapperTests
{
    private static readonly string App = Path.Combine(RealModels.Repository, "functions", "App");

    [Fact]
    public void Every_activity_has_a_wrapper_that_does_nothing_else()
    {
        var source = File.ReadAllText(Path.Combine(App, "Activities.cs"));
        var expected = ActivityCatalog.All.Values.Select(a =>
            $"[Function(nameof({a.Name}))] public Task<{a.Output.Name}> {a.Name}([ActivityTrigger] {a.Input.Name} input, FunctionContext context) => host.RunAsync<{a.Name}, {a.Input.Name}, {a.Output.Name}>(input, context);"
        );
        Assert.Equal(expected.Order(), Functions(source).Order());
    }

    [Fact]
    public void Every_orchestration_has_a_wrapper_that_does_nothing_else()
    {
        var source = File.ReadAllText(Path.Combine(App, "Orchestrations.cs"));
        var types = ActivityCatalog.Orchestrations.Select(name => typeof(DropRun).Assembly.GetType($"{typeof(DropRun).Namespace}.{name}")!);
        var expected = types
            .Select(t => (Name: t.Name, In: t.BaseType!.GetGenericArguments()[0].Name, Out: t.BaseType!.GetGenericArguments()[1].Name))
            .Select(t =>
                $"[Function(nameof({t.Name}))] public static Task<{t.Out}> {t.Name}([OrchestrationTrigger] TaskOrchestrationContext context) => new {t.Name}().RunAsync(new DurableOrchestration(context), context.GetInput<{t.In}>()!);"
            );
        Assert.Equal(expected.Order(), Functions(source).Order());
    }

    [Fact]
    public void Besides_them_there_are_the_triggers_and_nothing_else()
    {
        string[] files =
        [
            "Activities.cs",
            "AppHost.cs",
            "AppServices.cs",
            "CancelledRuns.cs",
            "DurableOrchestration.cs",
            "HttpTriggers.cs",
            "Log.cs",
            "Orchestrations.cs",
            "Program.cs",
            "QueueTriggers.cs",
            "RunEndingException.cs",
            "RunFailure.cs",
            "Runs.cs",
            "StorageSetup.cs",
        ];
        Assert.Equal(files, Directory.GetFiles(App, "*.cs").Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal));
        Assert.DoesNotContain(Directory.GetDirectories(App).Select(Path.GetFileName), d => d is not ("bin" or "obj" or "Properties"));
        var triggers = files
            .Except(["Activities.cs", "Orchestrations.cs"])
            .SelectMany(f => FunctionName().Matches(File.ReadAllText(Path.Combine(App, f))).Select(m => m.Groups[1].Value));
        Assert.Equal(
            ["\"Cancel\"", "\"OnEvent\"", "\"OnGpuAnswer\"", "\"Retrained\"", "\"RunReport\"", "\"RunStatus\"", "\"StartRun\""],
            triggers.Order(StringComparer.Ordinal)
        );
    }

    // The members of a class, one line each, without what documents them.
    private static IEnumerable<string> Functions(string source)
    {
        var body = source[(source.IndexOf('{', source.IndexOf("class", StringComparison.Ordinal)) + 1)..source.LastIndexOf('}')];
        var lines = body.Split('\n').Select(l => l.Trim()).Where(l => l.Length > 0 && !l.StartsWith("///", StringComparison.Ordinal));
        return string.Join(' ', lines)
            .Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(m => m + ";");
    }

    [GeneratedRegex(@"\[Function\(([^)]*)\)\]")]
    private static partial Regex FunctionName();
}
