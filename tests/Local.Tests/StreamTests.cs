using System.Diagnostics;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>Standard streams that are closed, full or read by nobody, and limits of the shell: never an abort.</summary>
public class StreamTests
{
    [Theory]
    [InlineData("2>&-", 0, true)]
    [InlineData("2>/dev/full", 0, true)]
    [InlineData("<&- >&- 2>&-", 0, false)]
    public async Task An_error_stream_that_cannot_be_written_stops_nothing(string redirection, int code, bool printed)
    {
        using var folder = new Folder();
        var done = await ShellAsync(folder, $"$RUN compress '{RealModels.Digits}' --out out {redirection}");
        Assert.Equal(code, done.ExitCode);
        Assert.Equal(printed, done.Output.Contains("Cosine", StringComparison.Ordinal));
        Assert.True(File.Exists(Path.Combine(folder.Path, "out", "report.json")));
        Assert.Equal(["out"], Directory.GetFileSystemEntries(folder.Path).Select(Path.GetFileName));
        // A sentence that nobody can read is still exit 2.
        Assert.Equal(2, (await ShellAsync(folder, $"$RUN compress nowhere.onnx {redirection}")).ExitCode);
    }

    [Theory]
    [InlineData(">&-", "it is closed")]
    [InlineData(">/dev/full", "No space left on device")]
    [InlineData("| true", "nobody reads it")]
    public async Task Output_that_is_lost_after_success_is_told_of(string redirection, string why)
    {
        using var folder = new Folder();
        var done = await ShellAsync(folder, $"set -o pipefail; $RUN compress '{RealModels.Digits}' --out out {redirection}");
        Assert.True(done.ExitCode == 0, done.Error);
        Assert.Equal($"Standard output could not be written ({why}); the result is in {Path.Combine(folder.Path, "out")}.", done.Sentence);
        Assert.True(File.Exists(Path.Combine(folder.Path, "out", "report.json")));
    }

    [Fact]
    public async Task Output_that_is_all_there_is_to_a_command_fails_it()
    {
        using var folder = new Folder();
        var full = await ShellAsync(folder, $"$RUN inspect '{RealModels.Digits}' >/dev/full");
        Assert.Equal(1, full.ExitCode);
        Assert.Contains("No space left on device", full.Sentence);
        // One who has read enough is no failure.
        var head = await ShellAsync(folder, $"set -o pipefail; $RUN inspect '{RealModels.Digits}' | head -n 1");
        Assert.True(head.ExitCode == 0, head.Error);
        Assert.Equal("", head.Error);
    }

    [Fact]
    public async Task A_limit_of_file_sizes_is_a_sentence()
    {
        using var folder = new Folder();
        var done = await ShellAsync(
            folder,
            $"export DOTNET_EnableWriteXorExecute=0; ulimit -f 100; $RUN compress '{RealModels.Digits}' --out out"
        );
        Assert.Equal(1, done.ExitCode);
        Assert.Contains("larger than the file system or the limit of the process allows", done.Sentence);
        Assert.DoesNotContain("   at ", done.Error);
    }

    [Fact]
    public async Task A_current_folder_that_was_deleted_is_a_sentence()
    {
        using var folder = new Folder();
        var done = await ShellAsync(folder, "mkdir gone; cd gone; rmdir ../gone; $RUN compress model.onnx");
        Assert.Equal(2, done.ExitCode);
        Assert.Equal("The current folder was deleted; change to another one.", done.Sentence);
    }

    private static async Task<CommandLine.Outcome> ShellAsync(Folder folder, string script)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs bash and /dev/full.");
        var start = new ProcessStartInfo("bash", ["-c", script])
        {
            WorkingDirectory = folder.Path,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["RUN"] = $"dotnet {typeof(ExitCode).Assembly.Location}";
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromMinutes(2)).Token);
        return new CommandLine.Outcome(process.ExitCode, await output, await error);
    }
}
