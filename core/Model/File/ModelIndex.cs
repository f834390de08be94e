using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Model;

/// <summary>A model read without its weights, and the versions of the files its weights are in.</summary>
/// <param name="Path">The <c>.onnx</c> in the store.</param>
/// <param name="Model">The graph; large tensors point at byte ranges of <paramref name="Files"/>.</param>
/// <param name="Files">File name relative to the model's folder → the stored object, the model itself included.</param>
public sealed record ModelIndex(string Path, ModelProto Model, IReadOnlyDictionary<string, Artifact> Files)
{
    private const int LongestShown = 200,
        MostShares = 16;
    private const long MostShared = 4L << 30;

    /// <summary>The folder in the store that file names are relative to.</summary>
    public string Folder => StorePath.Parent(Path);

    /// <summary>Bytes of the model and all its external data.</summary>
    public long Bytes => Files.Values.Sum(f => f.Length);

    /// <summary>Every tensor of the model, wherever it is, with a name for errors.</summary>
    public static IEnumerable<(TensorProto Tensor, string Place)> Tensors(ModelProto model)
    {
        foreach (var t in Of(model.Graph))
            yield return t;
        foreach (var training in model.TrainingInfo)
        foreach (var t in Of(training.Initialization).Concat(Of(training.Algorithm)))
            yield return t;
        foreach (var f in model.Functions)
        foreach (var t in OfNodes(f.Node))
            yield return t;

        static IEnumerable<(TensorProto, string)> Of(GraphProto? graph)
        {
            if (graph is null)
                yield break;
            foreach (var t in graph.Initializer)
                yield return (t, $"initializer '{Shown(t.Name)}'");
            foreach (var s in graph.SparseInitializer)
            {
                if (s.Values is not null)
                    yield return (s.Values, $"sparse initializer '{Shown(s.Values.Name)}' values");
                if (s.Indices is not null)
                    yield return (s.Indices, $"sparse initializer '{Shown(s.Values?.Name ?? "")}' indices");
            }
            foreach (var t in OfNodes(graph.Node))
                yield return t;
        }

        static IEnumerable<(TensorProto, string)> OfNodes(IEnumerable<NodeProto> nodes)
        {
            foreach (var n in nodes)
            {
                foreach (var a in n.Attribute)
                {
                    if (a is { T: null, G: null, SparseTensor: null, Tensors.Count: 0, Graphs.Count: 0, SparseTensors.Count: 0 })
                        continue;
                    var place = $"{n.OpType} '{Shown(n.Output.Count > 0 ? n.Output[0] : n.Name)}' attribute '{Shown(a.Name)}'";
                    if (a.T is not null)
                        yield return (a.T, place);
                    foreach (var t in a.Tensors)
                        yield return (t, place);
                    foreach (var s in a.SparseTensors.Append(a.SparseTensor))
                    {
                        if (s?.Values is not null)
                            yield return (s.Values, place);
                        if (s?.Indices is not null)
                            yield return (s.Indices, place);
                    }
                    foreach (var g in a.Graphs.Append(a.G))
                    foreach (var t in Of(g))
                        yield return t;
                }
            }
        }
    }

    // Names are as long as the model's author likes; a place for each tensor is not.
    private static string Shown(string name) => name.Length <= LongestShown ? name : name[..LongestShown] + "…";

    internal static async Task<ModelIndex> CheckAsync(
        IArtifactStore store,
        string path,
        Artifact self,
        ModelProto model,
        CancellationToken cancellation
    )
    {
        if (model.Graph is null || model.Graph.Node.Count == 0)
            throw new BadInputException($"{path}: holds no graph; give the .onnx file of a trained model.");
        if (!model.OpsetImport.Any(o => o.Domain is "" or "ai.onnx"))
            throw new BadInputException($"{path}: imports no ONNX operator set; export the model again.");
        var name = StorePath.Name(path);
        var files = new Dictionary<string, Artifact>(StringComparer.Ordinal) { [name] = self };
        var named = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (var (tensor, place) in Tensors(model))
        {
            cancellation.ThrowIfCancellationRequested();
            var reference = TensorRef.From(tensor, $"{path}, {place}");
            if (reference.File is not { } file)
                continue;
            if (file[0] is '@' or '#')
                throw new BadInputException(
                    $"{path}, {place}: the external data path '{file}' begins with '{file[0]}'; rename the data file."
                );
            if (!files.TryGetValue(file, out var artifact))
            {
                artifact =
                    await store.FindAsync(StorePath.Combine(StorePath.Parent(path), file), cancellation)
                    ?? throw new MissingDataException($"{path}, {place}: external data file '{file}' is missing; put it beside the model.");
                files[file] = artifact;
            }
            if (reference.Offset > artifact.Length - reference.Length)
                throw new BadInputException(
                    $"{path}, {place}: bytes {reference.Offset}..{(ulong)reference.Offset + (ulong)reference.Length} "
                        + $"lie past the end of '{file}' ({artifact.Length} bytes); copy it again."
                );
            // Each tensor is read and written on its own: a short file must not stand for any number of long ones.
            if ((named[file] = named.GetValueOrDefault(file) + reference.Length) > Math.Max(MostShared, artifact.Length * MostShares))
                throw new BadInputException(
                    $"{path}: its tensors name more than {named[file] >> 20} MB of '{file}', which holds "
                        + $"{artifact.Length >> 20} MB; save the model again so that tensors share no bytes."
                );
        }
        GraphCheck.Check(path, model, cancellation);
        FunctionExpansion.Check(path, model);
        return new ModelIndex(path, model, files);
    }
}

/// <summary>External data that the model names is not there, or not there yet.</summary>
public sealed class MissingDataException(string message) : BadInputException(message);
