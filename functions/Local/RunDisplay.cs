using System.Diagnostics;
using System.Globalization;
using Serverless.Core;
using Serverless.Core.Pipeline;
using Spectre.Console;

namespace Serverless.Local;

/// <summary>Shows a run on standard error: a bar with lines above it on a terminal, plain lines elsewhere.</summary>
internal sealed class RunDisplay
{
    private readonly IAnsiConsole? console;
    private readonly string prefix;
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private readonly Lock gate = new();
    private ProgressTask? bar;
    private string stage = "";
    private double compressStarted;

    private RunDisplay(IAnsiConsole? console, string prefix) => (this.console, this.prefix) = (console, prefix);

    /// <summary>Runs work with a display of it.</summary>
    /// <param name="work">The work.</param>
    /// <param name="name">Stands before every line, for work that others are done beside; null for work by itself.</param>
    public static async Task<T> RunAsync<T>(Func<RunDisplay, Task<T>> work, string? name = null)
    {
        if (Console.IsErrorRedirected || name is not null)
            return await work(new RunDisplay(null, name is null ? "" : $"{Printable.Line(name)}: "));
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        var display = new RunDisplay(console, "");
        return await console.Progress().AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .StartAsync(async context =>
            {
                display.bar = context.AddTask("Inspect", maxValue: 1);
                return await work(display);
            });
    }

    /// <summary>Says a line.</summary>
    public void Say(string line)
    {
        lock (gate) Write(line);
    }

    /// <summary>Shows a status.</summary>
    public void Show(RunStatus s)
    {
        lock (gate)
        {
            if (s.Stage != stage)
            {
                stage = s.Stage;
                compressStarted = clock.Elapsed.TotalSeconds;
                if (bar is null && s.Stage != "Compress") Write(s.Attempt > 1 ? $"{s.Stage} (attempt {s.Attempt})" : s.Stage);
            }
            if (bar is not null)
            {
                bar.Description = Markup.Escape(s.LayersTotal > 0 ? $"{s.Stage}, saved {Bytes(s.BytesSaved)}" : s.Stage);
                bar.MaxValue = Math.Max(1, s.BytesTotal);
                bar.Value = s.Stage == "Compress" ? s.BytesDone : s.Stage is "Inspect" or "Plan" ? 0 : bar.MaxValue;
            }
            if (s.Layer is not { } l) return;
            var line = $"[{s.LayersDone}/{s.LayersTotal}] {l.Name}: " + (l.Note is null
                ? $"{Bytes(l.BytesBefore)} → {Bytes(l.BytesAfter)}, {l.Bits} bits, error {l.Error.ToString("0.0000", CultureInfo.InvariantCulture)}{(l.Reused ? ", as before" : "")}"
                : $"left alone, {l.Note}");
            Write(bar is not null ? line : $"{line}; saved {Bytes(s.BytesSaved)}, {Left(s)} left");
        }
    }

    /// <summary>Bytes as people read them.</summary>
    public static string Bytes(long bytes) => Math.Abs(bytes) switch
    {
        < 10_000 => $"{bytes} B",
        < 10_000_000 => $"{(bytes / 1e3).ToString("0.#", CultureInfo.InvariantCulture)} kB",
        < 10_000_000_000 => $"{(bytes / 1e6).ToString("0.#", CultureInfo.InvariantCulture)} MB",
        _ => $"{(bytes / 1e9).ToString("0.##", CultureInfo.InvariantCulture)} GB",
    };

    // Names are the drop's: none of them drives the terminal.
    private void Write(string line)
    {
        if (console is null) Console.Error.WriteLine(prefix + Printable.Line(line));
        else console.MarkupLineInterpolated($"{Printable.Line(line)}");
    }

    private string Left(RunStatus s)
    {
        var spent = clock.Elapsed.TotalSeconds - compressStarted;
        var left = s.BytesDone == 0 ? 0 : spent * (s.BytesTotal - s.BytesDone) / s.BytesDone;
        return left < 90 ? $"{left.ToString("0", CultureInfo.InvariantCulture)} s" : $"{(left / 60).ToString("0", CultureInfo.InvariantCulture)} min";
    }
}
