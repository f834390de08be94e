using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>The folder that a run works in: a file, link or pipe in the place of a folder, or of the journal, is damage and goes.</summary>
internal static class WorkFolder
{
    /// <summary>The journal in it.</summary>
    public const string Journal = "journal.jsonl";

    /// <summary>Removes what is not of the kind it has to be; where a link leads is left alone.</summary>
    public static void Mend(string folder)
    {
        Require(folder, FileKind.Folder);
        Require(Path.Combine(folder, ChecksummedStore.Sums), FileKind.Folder);
        Require(Path.Combine(folder, Journal), FileKind.Regular);
    }

    private static void Require(string path, FileKind wanted)
    {
        var kind = FileIdentity.Of(path, follow: false).Kind;
        if (kind == wanted || kind == FileKind.Absent)
            return;
        if (kind == FileKind.Folder)
            Directory.Delete(path, recursive: true);
        else
            File.Delete(path);
    }
}
