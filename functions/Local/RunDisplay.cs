using Serverless.Core;
using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>Shows a run on standard error: a live region on a terminal, plain lines elsewhere.</summary>
internal interface IRunDisplay
{
    /// <summary>Says a line.</summary>
    void Say(string line);

    /// <summary>Shows a status.</summary>
    void Show(RunStatus status);
}

/// <summary>Chooses the display of a run.</summary>
internal static class RunDisplay
{
    /// <summary>Runs work with a display of it.</summary>
    /// <param name="work">The work.</param>
    /// <param name="verbose">Says a line for each layer.</param>
    /// <param name="name">Stands before every line, for work that others are done beside; null for work by itself.</param>
    public static Task<T> RunAsync<T>(Func<IRunDisplay, Task<T>> work, bool verbose, string? name = null)
    {
        // A terminal has one live region: drops beside each other share its lines.
        if (!Console.IsErrorRedirected && name is null)
            return LiveDisplay.RunAsync(work, verbose);
        return work(new LineDisplay(Console.Error, TimeProvider.System, verbose, name is null ? "" : $"{Printable.Line(name)}: "));
    }
}
