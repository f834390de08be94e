using Serverless.Core;
using Serverless.Core.Reports;
using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>Plain lines: one a stage, and one a layer when verbose; else a summary now and then.</summary>
/// <param name="output">Where they go.</param>
/// <param name="time">The time.</param>
/// <param name="verbose">Says a line for each layer.</param>
/// <param name="prefix">Stands before every line.</param>
internal sealed class LineDisplay(TextWriter output, TimeProvider time, bool verbose, string prefix) : IRunDisplay
{
    /// <summary>The time between two summaries.</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromSeconds(10);

    private readonly ProgressText text = new(time);
    private readonly Lock gate = new();
    private long said;

    public void Say(string line)
    {
        lock (gate)
            Write(line);
    }

    public void Show(RunStatus status)
    {
        lock (gate)
        {
            if (text.Begins(status))
            {
                Write(status.Attempt > 1 ? $"{status.Stage} (attempt {status.Attempt})" : status.Stage);
                said = time.GetTimestamp();
            }
            if (status.Layer is null)
                return;
            if (verbose)
                Write($"{ProgressText.Layer(status)}; saved {ByteCount.Text(status.BytesSaved)}, {text.Rest(status)}");
            else if (time.GetElapsedTime(said) >= Pause)
            {
                Write($"{ProgressText.Stage(status)}, {text.Rest(status)}");
                said = time.GetTimestamp();
            }
        }
    }

    // Names are the drop's: none of them drives the terminal.
    private void Write(string line) => output.WriteLine(prefix + Printable.Line(line));
}
