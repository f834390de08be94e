using Microsoft.ML.OnnxRuntime;
using Serverless.Core.Execution;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Storage;

namespace Serverless.Core.Runs;

/// <summary>A model whose constants are coded at their entropy, written with plain constants: for runtimes that do not fold.</summary>
/// <param name="Constants">Constants decoded.</param>
/// <param name="BytesBefore">Bytes of the model.</param>
/// <param name="BytesAfter">Bytes with plain constants.</param>
public sealed record UnpackedModel(int Constants, long BytesBefore, long BytesAfter)
{
    /// <summary>Unpacks a model.</summary>
    /// <param name="store">The store.</param>
    /// <param name="model">Path of the model.</param>
    /// <param name="target">Folder that the result is written to.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <exception cref="BadInputException">It is no model, holds no constants that are coded at their entropy, or ONNX Runtime refuses it.</exception>
    public static async Task<UnpackedModel> WriteAsync(IArtifactStore store, string model, string target, CancellationToken cancellation)
    {
        var index = await ModelIndexer.IndexAsync(store, model, cancellation);
        var edit = new ModelEdit(index.Model);
        var coded = RansNodes.Decoded(edit.Roots[0]);
        if (coded.Count == 0)
            throw new BadInputException($"{model}: holds no constants that are coded at their entropy; there is nothing to unpack.");
        var made = new List<TensorProto>();
        using (
            var folder = await store.MaterializeAsync(
                index.Folder,
                index.Files.ToDictionary(f => f.Key, f => (string?)f.Value.ETag),
                cancellation
            )
        )
        {
            var bytes = await Task.Run(() => Decode(model, index.Model, folder.Path, coded.Keys), cancellation);
            foreach (var (name, (type, dims)) in coded.Where(c => bytes.ContainsKey(c.Key)))
            {
                var tensor = ModelEdit.Tensor(type, bytes[name], dims);
                tensor.Name = name;
                made.Add(tensor);
            }
        }
        RansNodes.Replace(edit, made, cancellation);
        var written = await ModelWriter.WriteAsync(
            store,
            index.Model,
            index.Folder,
            index.Files.Values.ToDictionary(f => f.Path, f => f.ETag, StringComparer.Ordinal),
            target,
            ModelWriter.ProtobufLimit,
            cancellation
        );
        return new UnpackedModel(made.Count, index.Bytes, written);
    }

    private static IReadOnlyDictionary<string, byte[]> Decode(string path, ModelProto model, string folder, IEnumerable<string> names)
    {
        try
        {
            return ConstantValues.Bytes(model, folder, names);
        }
        catch (OnnxRuntimeException e)
        {
            throw new BadInputException($"{path}: ONNX Runtime refuses what decodes its constants: {RuntimeMessage.Of(e)}", e);
        }
    }
}
