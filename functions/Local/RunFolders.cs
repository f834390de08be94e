using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>
/// Checks the folders that a run writes to before anything is done: nothing that the user dropped is in them, what is
/// replaced was published by a run, and they can be written. Files are compared by identity: links, hard links, mounts
/// and spellings of a path make no difference.
/// </summary>
internal static class RunFolders
{
    /// <summary>The options with their folders made absolute and links in them followed.</summary>
    /// <exception cref="BadInputException">A folder cannot be used; says why and what to give instead.</exception>
    public static LocalOptions Check(Drop drop, LocalOptions options, Action<string> say)
    {
        var work = options.Work is { } w ? FolderPath.Of(w, "--work") : null;
        if (work is not null)
            FolderPath.RequireWritable(work, "--work");
        if (drop.Source.Storage is not null)
            return options with { Work = work };
        var output = options.Output is { } o ? FolderPath.Of(o, "--out") : null;
        if (output is not null)
            CheckOutput(drop, output, options.Force, say);
        FolderPath.RequireWritable(output ?? Path.Combine(Path.GetFullPath(options.Root), "compressed"), "--out");
        if (work is not null)
            CheckWork(drop, work, output);
        else if (output is not null)
            FolderPath.RequireWritable(Path.Combine(Path.GetDirectoryName(output)!, RunLock.WorkFolder), "--work");
        return options with { Output = output, Work = work };
    }

    /// <summary>Refuses an output folder that holds one of the files a run reads; the external data of a model is known only now.</summary>
    public static void RefuseSources(string output, Drop drop, IEnumerable<Artifact> parts)
    {
        if (!Directory.Exists(output) || drop.Source.Open() is not FolderStore store)
            return;
        foreach (var part in parts)
            if (FolderPath.Holds(output, store.FullPath(part.Path)))
                throw HoldsSource(output, part.Path);
    }

    private static void CheckOutput(Drop drop, string output, bool force, Action<string> say)
    {
        foreach (var file in Files(drop))
            if (FolderPath.Holds(output, file))
                throw HoldsSource(output, Path.GetFileName(file));
        if (StorePath.WhyUnsafe(Path.GetFileName(output)) is { } unsafely)
            throw new BadInputException($"--out {output}: the name {unsafely}; give another one.");
        if (
            Path.GetDirectoryName(output) is { } above
            && (IsWatched(above) || (Path.GetFileName(above) == RunPaths.Containers[0] && IsWatched(Path.GetDirectoryName(above)!)))
        )
            throw new BadInputException(
                $"--out {output}: 'watch' takes what appears in {above} for a drop; "
                    + "give a folder elsewhere, or in "
                    + $"{Path.Combine(IsWatched(above) ? above : Path.GetDirectoryName(above)!, "compressed", "NAME")}."
            );
        if (!Directory.Exists(output))
            return;
        var why = Look(output);
        if (why is not null && !force)
            throw new BadInputException(
                $"--out {output}: holds {why}; "
                    + $"give --out {FreeName(output)}, or --force to keep the old folder as {PublishedFolder.AsideName(output)}."
            );
        if (InFolder(output, Files(drop)) is { } held)
            throw HoldsSource(output, Path.GetFileName(held));
        if (why is not null && CannotMove(output))
            throw new BadInputException(
                $"--out {output}: holds {why}, and is a mount or the current folder, "
                    + $"which cannot be set aside; give --out a folder in it."
            );
        if (why is not null)
            say($"{output} holds {why}: once the result is whole, it will be kept as {PublishedFolder.AsideName(output)}.");
    }

    private static void CheckWork(Drop drop, string work, string? output)
    {
        if (output is not null && (FolderPath.Holds(work, output) || FolderPath.Holds(output, work)))
            throw new BadInputException($"--work {work}: it and --out {output} lie in one another; give two folders of their own.");
        foreach (var file in Files(drop))
            if (FileIdentity.Of(work).IsSame(FileIdentity.Of(Path.GetDirectoryName(file)!)))
                throw new BadInputException(
                    $"--work {work}: the folder holds '{Path.GetFileName(file)}', which is to be read; " + $"give a folder of its own."
                );
    }

    private static bool CannotMove(string folder)
    {
        var found = FileIdentity.Of(folder);
        return found.Device != FileIdentity.Of(Path.GetDirectoryName(folder)!).Device
            || found.IsSame(FileIdentity.Of(Directory.GetCurrentDirectory()));
    }

    private static BadInputException HoldsSource(string output, string name) =>
        new(
            $"--out {output}: the folder holds '{name}', which is to be read, and the original is never replaced; "
                + $"give --out {FreeName(output)}."
        );

    // The model, recipe and data: as they were named, and where their links lead.
    private static List<string> Files(Drop drop)
    {
        var store = (FolderStore)drop.Source.Open();
        return
        [
            .. new[] { drop.Model, drop.Recipe, drop.Data }
                .OfType<string>()
                .Select(store.FullPath)
                .SelectMany(f => new[] { f, FileIdentity.RealPath(f) })
                .Distinct(),
        ];
    }

    private static string? Look(string output)
    {
        try
        {
            return PublishedFolder.WhyForeign(output);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new BadInputException($"--out {output}: it may not be looked into; check its permissions, or give another folder.", e);
        }
    }

    // One of the files under another name, somewhere in the folder.
    private static string? InFolder(string folder, List<string> files)
    {
        var identities = files.Select(f => FileIdentity.Of(f)).ToList();
        var inside = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint };
        try
        {
            return Directory
                .EnumerateFiles(folder, "*", inside)
                .FirstOrDefault(f => FileIdentity.Of(f) is var found && identities.Exists(i => i.IsSame(found)));
        }
        catch (PathTooLongException e)
        {
            throw new BadInputException($"--out {folder}: holds paths too long to look at; give another folder.", e);
        }
    }

    private static bool IsWatched(string folder) => RunPaths.Containers.All(f => Directory.Exists(Path.Combine(folder, f)));

    private static string FreeName(string folder)
    {
        for (var i = 2; ; i++)
            if (FileIdentity.Of($"{folder}-{i}", follow: false).Kind == FileKind.Absent)
                return $"{folder}-{i}";
    }
}
