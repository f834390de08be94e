using System.Globalization;

namespace Serverless.Core.Storage;

/// <summary>
/// Tells two contents of a path apart without reading them: length, time of the last write, and on Linux the time of the
/// last change (st_ctime of statx(2)), which nobody sets: <c>touch</c>, <c>cp -p</c> and <c>rsync -t</c> move it on.
/// </summary>
public static class FileVersion
{
    /// <summary>The version of a file that exists.</summary>
    /// <returns>Hexadecimal digits and dashes.</returns>
    public static string Of(FileInfo file) =>
        string.Create(CultureInfo.InvariantCulture, $"{file.Length:x}-{file.LastWriteTimeUtc.Ticks:x}-{Posix.ChangeTime(file.FullName):x}");
}
