using Serverless.Core;
using Serverless.Core.Runs;
using Spectre.Console;

namespace Serverless.Local;

/// <summary>A bar on the terminal with the stage, the layers done, the bytes saved and the time that remains.</summary>
internal sealed class LiveDisplay : IRunDisplay
{
    private readonly IAnsiConsole console;
    private readonly ProgressTask bar;
    private readonly ProgressText text = new(TimeProvider.System);
    private readonly bool verbose;
    private readonly Lock gate = new();

    private LiveDisplay(IAnsiConsole console, ProgressTask bar, bool verbose) =>
        (this.console, this.bar, this.verbose) = (console, bar, verbose);

    /// <summary>Runs work below which the bar stands until it ends.</summary>
    public static Task<T> RunAsync<T>(Func<IRunDisplay, Task<T>> work, bool verbose)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        return console
            .Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .StartAsync(context => work(new LiveDisplay(console, context.AddTask("Inspect", maxValue: 1), verbose)));
    }

    public void Say(string line)
    {
        lock (gate)
            Write(line);
    }

    public void Show(RunStatus status)
    {
        lock (gate)
        {
            _ = text.Begins(status);
            bar.Description = Markup.Escape(ProgressText.Stage(status));
            bar.MaxValue = Math.Max(1, status.BytesTotal);
            bar.Value = status.Stage switch
            {
                "Inspect" or "Plan" => 0,
                RunStatus.Compress => status.BytesDone,
                _ => bar.MaxValue,
            };
            if (verbose && status.Layer is not null)
                Write(ProgressText.Layer(status));
        }
    }

    // Names are the drop's: none of them drives the terminal.
    private void Write(string line) => console.MarkupLineInterpolated($"{Printable.Line(line)}");
}
