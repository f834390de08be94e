using Serverless.Core;
using Serverless.Core.Reports;
using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>A finished run on this machine.</summary>
/// <param name="Run">Its result; the output is a directory, or a store path where results go to blob storage.</param>
/// <param name="Report">The report that was published with it.</param>
internal sealed record LocalResult(RunResult Run, Report Report)
{
    /// <summary>The page to read, whose folder holds the compressed model.</summary>
    public string Page => Printable.Line(Path.Combine(Run.Output, "report.html"));

    /// <summary>The command's exit code.</summary>
    public int ExitCode => Run.Status == RunResult.OverBudget ? Local.ExitCode.OverBudget : Local.ExitCode.Done;
}
