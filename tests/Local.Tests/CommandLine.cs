using System.Diagnostics;

namespace Serverless.Local.Tests;

/// <summary>Runs the command line as a user does: a process of its own.</summary>
internal static class CommandLine
{
    public sealed record Outcome(int ExitCode, string Output, string Error)
    {
        /// <summary>The single sentence of an error.</summary>
        public string Sentence => Error.Trim().Split('\n')[^1];
    }

    public static Process Start(string folder, params string[] args)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // A short command never gets to what its profile would make faster.
        start.Environment["DOTNET_TieredPGO"] = "0";
        start.ArgumentList.Add(typeof(ExitCode).Assembly.Location);
        foreach (var a in args)
            start.ArgumentList.Add(a);
        return Process.Start(start)!;
    }

    public static async Task<Outcome> RunAsync(string folder, params string[] args)
    {
        using var process = Start(folder, args);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromMinutes(5)).Token);
        return new Outcome(process.ExitCode, await output, await error);
    }
}
