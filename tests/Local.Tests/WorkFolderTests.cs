using System.Diagnostics;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>What stands in the place of a run's folder, of its checksums or of its journal, and is none.</summary>
public class WorkFolderTests
{
    [Theory]
    [InlineData("")]
    [InlineData("/journal.jsonl")]
    [InlineData("/.sums")]
    public async Task What_is_of_the_wrong_kind_goes_and_what_a_link_leads_to_stays(string place)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs mkfifo.");
        using var folder = new Folder();
        folder.Write("elsewhere/file", [1]);
        var run = Path.Combine(folder.Path, "work", "run");
        var path = run + place;
        foreach (
            var make in new[]
            {
                $"mkfifo '{path}'",
                $"ln -s '{folder.Path}/elsewhere' '{path}'",
                $"ln -s nowhere '{path}'",
                place == "/journal.jsonl" ? $"mkdir -p '{path}/x'" : $"echo > '{path}'",
            }
        )
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            using (var bash = Process.Start("bash", ["-c", make]))
                await bash.WaitForExitAsync();
            Assert.NotEqual(FileKind.Absent, FileIdentity.Of(path, follow: false).Kind);
            WorkFolder.Mend(run);
            Assert.Equal(FileKind.Absent, FileIdentity.Of(path, follow: false).Kind);
        }
        Assert.Equal([1], File.ReadAllBytes(Path.Combine(folder.Path, "elsewhere", "file")));
    }

    [Fact]
    public void What_is_of_the_right_kind_stays()
    {
        using var folder = new Folder();
        foreach (var file in new[] { "journal.jsonl", ".sums/plan.json.sum", "plan.json" })
            folder.Write($"run/{file}", [1]);
        WorkFolder.Mend(Path.Combine(folder.Path, "run"));
        Assert.Equal(3, Directory.GetFiles(Path.Combine(folder.Path, "run"), "*", SearchOption.AllDirectories).Length);
    }
}
