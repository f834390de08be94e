namespace Serverless.Core.Storage;

/// <summary>
/// Replaces what a run published in a folder that cannot be moved itself: a mount, the current directory. The old
/// report goes first and the new one comes last, so that no model lies beside another's report.
/// </summary>
internal static class InPlacePublication
{
    /// <summary>Publishes a folder into another.</summary>
    /// <exception cref="BadInputException">The target holds something that no run published.</exception>
    public static void Publish(string from, string to, CancellationToken cancellation)
    {
        if (PublishedFolder.WhyForeign(to) is { } why)
            throw new BadInputException($"{to}: holds {why}, and cannot be moved aside; give --out a folder in it.");
        var staging = Path.Combine(to, PublishedFolder.Unfinished);
        if (Directory.Exists(staging))
            Directory.Delete(staging, recursive: true);
        FolderPublication.Fill(from, staging, cancellation);
        foreach (var name in Ordered(to).Reverse())
            if (PublishedFolder.IsOurs(name))
                File.Delete(Path.Combine(to, name));
        foreach (var name in Ordered(staging))
            File.Move(Path.Combine(staging, name), Path.Combine(to, name));
        Directory.Delete(staging, recursive: true);
        Posix.SyncFolder(to);
    }

    private static IEnumerable<string> Ordered(string folder) =>
        Directory
            .GetFiles(folder)
            .Select(f => Path.GetFileName(f)!)
            .OrderBy(n => n == PublishedFolder.Report)
            .ThenBy(n => n, StringComparer.Ordinal);
}
