using ArchUnitNET.Domain;
using ArchUnitNET.Domain.Dependencies;
using ArchUnitNET.Loader;
using Serverless.Core.Runs;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>
/// What an orchestration calls is the same on replay. Microsoft.DurableTask.Analyzers holds this for the functions of the Azure host; they
/// see no orchestration that is written against <see cref="IOrchestration"/>.
/// </summary>
public class DeterminismTests
{
    private static readonly string[] Forbidden =
    [
        " System.DateTime::get_Now",
        " System.DateTime::get_UtcNow",
        " System.DateTimeOffset::get_Now",
        " System.DateTimeOffset::get_UtcNow",
        " System.Guid::NewGuid",
        " System.Random::",
        " System.Environment::",
        " System.Diagnostics.Stopwatch::",
        " System.IO.File::",
        " System.IO.Directory::",
        " System.Threading.Tasks.Task::Delay",
        " System.Threading.Tasks.Task::Run",
        " System.Threading.Thread::",
    ];

    [Fact]
    public void Orchestrations_and_what_they_call_ask_the_clock_chance_and_files_for_nothing()
    {
        var called = new ArchLoader()
            .LoadAssemblies(typeof(IOrchestration).Assembly)
            .Build()
            .Types.SelectMany(t => t.Members)
            .OfType<MethodMember>()
            .Where(m => m.Parameters.Any(p => p.FullName == typeof(IOrchestration).FullName))
            .ToHashSet();
        Assert.Contains(called, m => m.FullName.Contains(nameof(CompressionRun), StringComparison.Ordinal));
        var wrong = new List<string>();
        for (var open = new Queue<MethodMember>(called); open.TryDequeue(out var from); )
            foreach (var to in from.MemberDependencies.OfType<MethodCallDependency>().Select(d => (MethodMember)d.TargetMember))
            {
                if (Forbidden.Any(f => to.FullName.Contains(f, StringComparison.Ordinal)))
                    wrong.Add($"{from.FullName} → {to.FullName}");
                if (called.Add(to))
                    open.Enqueue(to);
            }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong.Distinct()));
    }
}
