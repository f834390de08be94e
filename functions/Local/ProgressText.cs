using System.Globalization;
using Serverless.Core.Reports;
using Serverless.Core.Runs;

namespace Serverless.Local;

/// <summary>How far a run is, in words.</summary>
internal sealed class ProgressText(TimeProvider time)
{
    private const int LongestSeconds = 90;
    private (string Stage, int Attempt) current;
    private long began = time.GetTimestamp();

    /// <summary>Whether a status is the first of its stage; the remaining time counts from there.</summary>
    public bool Begins(RunStatus status)
    {
        if (current == (status.Stage, status.Attempt))
            return false;
        current = (status.Stage, status.Attempt);
        began = time.GetTimestamp();
        return true;
    }

    /// <summary>The stage, its layers and the bytes saved.</summary>
    public static string Stage(RunStatus s) =>
        s.LayersTotal == 0 ? s.Stage : $"{s.Stage} {s.LayersDone}/{s.LayersTotal} layers, saved {ByteCount.Text(s.BytesSaved)}";

    /// <summary>The layer that was finished last.</summary>
    public static string Layer(RunStatus s)
    {
        var l = s.Layer!;
        var figures = $"{ByteCount.Change(l.BytesBefore, l.BytesAfter)}, {l.Bits} bits, error {ReportText.Error(l.Error)}";
        var end = l.Reused ? ", as before" : "";
        return $"[{s.LayersDone}/{s.LayersTotal}] {l.Name}: {(l.Note is { } note ? $"left alone, {note}" : figures + end)}";
    }

    /// <summary>The time that remains of the stage.</summary>
    public string Rest(RunStatus s)
    {
        var left = s.BytesDone == 0 ? 0 : time.GetElapsedTime(began).TotalSeconds * (s.BytesTotal - s.BytesDone) / s.BytesDone;
        return left < LongestSeconds ? $"{Whole(left)} s left" : $"{Whole(left / 60)} min left";
    }

    private static string Whole(double value) => value.ToString("0", CultureInfo.InvariantCulture);
}
