using Microsoft.Extensions.Logging;

namespace Serverless.Core.Storage;

/// <summary>
/// Log lines without the secrets in them (<see cref="SecretText"/>); an exception is its message, since its text may hold more.
/// </summary>
internal sealed class CutLogs(ILoggerFactory inner) : ILoggerFactory
{
    public ILogger CreateLogger(string categoryName) => new CutLogger(inner.CreateLogger(categoryName));

    public void AddProvider(ILoggerProvider provider) => inner.AddProvider(provider);

    // The factory is the host's.
    public void Dispose() { }

    private sealed class CutLogger(ILogger inner) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => inner.BeginScope(state);

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning && inner.IsEnabled(logLevel);

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter
        )
        {
            if (!IsEnabled(logLevel))
                return;
            var why = exception is null ? "" : $" ({exception.GetType().Name}: {exception.Message})";
            var line = SecretText.Cut(formatter(state, exception) + why);
            var fields = state as IEnumerable<KeyValuePair<string, object?>> ?? [];
            var cut = fields
                .Select(f => KeyValuePair.Create(f.Key, f.Value is null ? null : (object?)SecretText.Cut($"{f.Value}")))
                .ToList();
            inner.Log(logLevel, eventId, cut, null, (_, _) => line);
        }
    }
}
