using Microsoft.Extensions.Logging;

namespace Serverless.App.Tests;

/// <summary>Counts lines that are logged at Information or above.</summary>
internal sealed class CountedLogs : ILoggerFactory, ILogger
{
    private int informed;

    public int Informed => informed;

    public ILogger CreateLogger(string categoryName) => this;

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

    public void Log<TState>(
        LogLevel logLevel,
        EventId eventId,
        TState state,
        Exception? exception,
        Func<TState, Exception?, string> formatter
    )
    {
        if (IsEnabled(logLevel))
            Interlocked.Increment(ref informed);
    }

    public void Dispose() { }
}
