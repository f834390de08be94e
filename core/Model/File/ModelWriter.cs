using System.Globalization;
using Google.Protobuf;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Model;

/// <summary>
/// Streams a model into the store: weights flow from wherever they are through one buffer. Inline while the whole
/// fits protobuf's 2 GB, as external data beyond (ONNX IR, "External Tensor Data": offsets aligned for mapping).
/// </summary>
public static class ModelWriter
{
    /// <summary>The name of the written model.</summary>
    public const string ModelName = "model.onnx";

    /// <summary>The name of its external data.</summary>
    public const string DataName = "model.onnx.data";

    /// <summary>Largest model written as one file: protobuf's limit.</summary>
    public const long ProtobufLimit = int.MaxValue;

    private const long PageSize = 4096,
        MapGranularity = 65536,
        LargeTensor = 1 << 20;
    private const string Marker = "#";

    private const string StorePrefix = "@";

    /// <summary>Location of a payload that lies in the store outside the model's own folder.</summary>
    public static string InStore(string path) => StorePrefix + path;

    /// <summary>The store path that a tensor's location stands for.</summary>
    public static string Resolve(string folder, string location) =>
        location.StartsWith(StorePrefix, StringComparison.Ordinal) ? location[1..] : StorePath.Combine(folder, location);

    /// <summary>
    /// Writes <paramref name="model"/> as <c>model.onnx</c> (and <c>model.onnx.data</c>) under <paramref name="target"/>.
    /// The model is changed: its tensors point at the written data.
    /// </summary>
    /// <param name="store">Where payloads are read and the model is written.</param>
    /// <param name="model">Tensors are inline, or point at files of <paramref name="folder"/>, or at <see cref="InStore"/> paths.</param>
    /// <param name="folder">The folder in the store that plain locations are relative to.</param>
    /// <param name="etags">Versions expected of store paths; a path that is absent is read as it is.</param>
    /// <param name="target">The folder written to.</param>
    /// <param name="inlineLimit">Largest size written as one file, in bytes.</param>
    /// <param name="cancellation">Cancels the write.</param>
    /// <returns>Bytes written.</returns>
    public static async Task<long> WriteAsync(
        IArtifactStore store,
        ModelProto model,
        string folder,
        IReadOnlyDictionary<string, string> etags,
        string target,
        long inlineLimit,
        CancellationToken cancellation
    )
    {
        var tensors = ModelIndex
            .Tensors(model)
            .Select(t => t.Tensor)
            .Where(t => t.DataLocation == TensorProto.Types.DataLocation.External)
            .ToList();
        var total = model.CalculateSize() + tensors.Sum(t => TensorRef.From(t, "tensor").Length);
        long written = 0;
        if (total > inlineLimit)
        {
            LiftConstants(model);
            var external = InitializersOf(model.Graph).Where(t => t.DataLocation == TensorProto.Types.DataLocation.External).ToList();
            var layout = new List<(TensorRef Source, long Offset)>();
            long at = 0;
            foreach (var t in external)
            {
                var source = TensorRef.From(t, t.Name);
                var alignment = source.Length >= LargeTensor ? MapGranularity : PageSize;
                at = (at + alignment - 1) / alignment * alignment;
                layout.Add((source, at));
                at += source.Length;
            }
            await using var sources = new Sources(store, folder, etags);
            var data = await store.WriteAsync(
                StorePath.Combine(target, DataName),
                async (stream, token) =>
                {
                    long position = 0;
                    foreach (var (source, offset) in layout)
                    {
                        for (var zeros = new byte[Math.Min(MapGranularity, offset - position)]; position < offset; position += zeros.Length)
                            await stream.WriteAsync(zeros.AsMemory(0, (int)Math.Min(zeros.Length, offset - position)), token);
                        await sources.CopyAsync(source, stream, token);
                        position = offset + source.Length;
                    }
                },
                cancellation
            );
            for (var i = 0; i < external.Count; i++)
                TensorRef.Point(external[i], DataName, layout[i].Offset, layout[i].Source.Length);
            written += data.Length;
            tensors = tensors.Except(external, ReferenceEqualityComparer.Instance).Cast<TensorProto>().ToList();
        }
        return written + await WriteModelAsync(store, model, folder, etags, target, tensors, cancellation);
    }

    private static async Task<long> WriteModelAsync(
        IArtifactStore store,
        ModelProto model,
        string folder,
        IReadOnlyDictionary<string, string> etags,
        string target,
        List<TensorProto> inline,
        CancellationToken cancellation
    )
    {
        await using var sources = new Sources(store, folder, etags);
        var references = inline.Select(t => TensorRef.From(t, t.Name)).ToList();
        for (var i = 0; i < inline.Count; i++)
            TensorRef.Point(inline[i], Marker + i.ToString(CultureInfo.InvariantCulture), 0, 0);
        var writer = new WireWriter(
            model.ToByteArray(),
            message =>
            {
                var tensor = TensorProto.Parser.ParseFrom(message.Span);
                if (
                    tensor.ExternalData.FirstOrDefault(e => e.Key == "location")?.Value is not { } location
                    || !location.StartsWith(Marker, StringComparison.Ordinal)
                )
                    return null;
                var source = references[int.Parse(location.AsSpan(1), CultureInfo.InvariantCulture)];
                tensor.ExternalData.Clear();
                tensor.ClearDataLocation();
                return new TensorPayload(tensor.ToByteArray(), source.Length, (stream, token) => sources.CopyAsync(source, stream, token));
            }
        );
        if (writer.Length > ProtobufLimit)
            throw new BadInputException(
                $"{folder}: {writer.Length >> 20} MB of weights sit in functions or sparse tensors, where ONNX allows "
                    + "no external data; inline the functions first."
            );
        var artifact = await store.WriteAsync(StorePath.Combine(target, ModelName), writer.WriteAsync, cancellation);
        return artifact.Length;
    }

    private static IEnumerable<TensorProto> InitializersOf(GraphProto graph) =>
        graph.Initializer.Concat(graph.Node.SelectMany(GraphScope.Subgraphs).SelectMany(InitializersOf));

    /// <summary>Turns Constant nodes whose data is external into initializers: ONNX Runtime reads external data of those alone.</summary>
    internal static void LiftConstants(ModelProto model)
    {
        foreach (var scope in GraphScope.Of(model)[0].All())
        {
            var kept = new List<NodeProto>(scope.Nodes.Count);
            foreach (var node in scope.Nodes)
            {
                if (!IsExternalConstant(node))
                {
                    kept.Add(node);
                    continue;
                }
                var tensor = node.Attribute[0].T;
                tensor.Name = node.Output[0];
                scope.Graph!.Initializer.Add(tensor);
            }
            if (kept.Count == scope.Nodes.Count)
                continue;
            scope.Nodes.Clear();
            scope.Nodes.AddRange(kept);
        }
    }

    internal static bool IsExternalConstant(NodeProto node) =>
        node.OpType == "Constant" && node.Attribute is [{ T.DataLocation: TensorProto.Types.DataLocation.External }];

    private sealed class Sources(IArtifactStore store, string folder, IReadOnlyDictionary<string, string> etags) : IAsyncDisposable
    {
        private (string Path, ArtifactReader Reader)? open;

        public async Task CopyAsync(TensorRef source, Stream output, CancellationToken cancellation)
        {
            var path = Resolve(folder, source.File!);
            if (open is not { } current || current.Path != path)
            {
                if (open is { } old)
                    await old.Reader.DisposeAsync();
                open = current = (path, await store.OpenAsync(path, etags.GetValueOrDefault(path), cancellation));
            }
            await current.Reader.CopyToAsync(source.Offset, source.Length, output, cancellation);
        }

        public async ValueTask DisposeAsync()
        {
            if (open is { } current)
                await current.Reader.DisposeAsync();
        }
    }
}
