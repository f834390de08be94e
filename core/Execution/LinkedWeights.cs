using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Execution;

/// <summary>
/// ONNX Runtime reads external data only of files that really lie below the folder it is told. Caches keep models as links into another
/// folder; a model from there names the files themselves, from the folder that holds them all.
/// </summary>
internal static class LinkedWeights
{
    /// <summary>The model and the folder that its files are named from: both as given where no file is a link.</summary>
    /// <param name="part">The model, which is not changed.</param>
    /// <param name="folder">Local folder of its weights.</param>
    public static (ModelProto Model, string Folder) Follow(ModelProto part, string folder)
    {
        var real = FileIdentity.RealPath(folder);
        var files = Tensors(part)
            .Select(t => TensorRef.From(t, t.Name).File)
            .OfType<string>()
            .Distinct()
            .ToDictionary(f => f, f => FileIdentity.RealPath(Path.Combine(folder, f)), StringComparer.Ordinal);
        if (files.All(f => f.Value == Path.Combine(real, f.Key)))
            return (part, folder);
        var shared = files.Values.Select(f => Path.GetDirectoryName(f)!).Aggregate(Shared);
        var copy = part.Clone();
        foreach (var tensor in Tensors(copy))
            if (TensorRef.From(tensor, tensor.Name) is { File: { } file } at)
                TensorRef.Point(tensor, Path.GetRelativePath(shared, files[file]).Replace('\\', '/'), at.Offset, at.Length);
        return (copy, shared);
    }

    private static IEnumerable<TensorProto> Tensors(ModelProto model) =>
        GraphScope
            .Of(model)
            .SelectMany(r => r.All())
            .SelectMany(s => s.Graph?.Initializer ?? [])
            .Where(t => t.DataLocation == TensorProto.Types.DataLocation.External);

    private static string Shared(string a, string b)
    {
        var parts = a.Split(Path.DirectorySeparatorChar).Zip(b.Split(Path.DirectorySeparatorChar)).TakeWhile(p => p.First == p.Second);
        return string.Join(Path.DirectorySeparatorChar, parts.Select(p => p.First)) is { Length: > 0 } both ? both : Path.GetPathRoot(a)!;
    }
}
