using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>Where a run's status goes; that of its parts is counted into the whole.</summary>
internal sealed class LocalDisplay(Action<RunStatus> show, Action<string> say)
{
    private readonly Dictionary<string, RunStatus> parts = new(StringComparer.Ordinal);
    private readonly Lock gate = new();
    private RunStatus? whole;

    public void Show(RunStatus status)
    {
        lock (gate)
        {
            if (whole?.Attempt != status.Attempt || whole.Stage != status.Stage)
                parts.Clear();
            whole = status;
            if (parts.Count == 0)
                show(status);
        }
    }

    public void ShowPart(string id, RunStatus status)
    {
        lock (gate)
        {
            parts[id] = status;
            if (status.Layer is not null && whole is not null)
                show(whole.With(parts.Values) with { Layer = status.Layer });
        }
    }

    public void Say(string line) => say(line);
}
