using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>Values of a graph that follow from its constants alone, as ONNX Runtime computes them: weights as they are decoded.</summary>
internal static class ConstantValues
{
    /// <summary>Reads some; those that follow from inputs, or are no floats, are left out.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">Local folder that its external data is relative to.</param>
    /// <param name="names">Names of values of the main graph.</param>
    public static IReadOnlyDictionary<string, float[]> Read(ModelProto model, string folder, IEnumerable<string> names) =>
        Read<float>(model, folder, names, TensorElementType.Float);

    /// <summary>Reads some of UINT8 or INT8; others are left out.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">Local folder that its external data is relative to.</param>
    /// <param name="names">Names of values of the main graph.</param>
    public static IReadOnlyDictionary<string, byte[]> Bytes(ModelProto model, string folder, IEnumerable<string> names) =>
        Read<byte>(model, folder, names, TensorElementType.UInt8, TensorElementType.Int8);

    private static Dictionary<string, T[]> Read<T>(
        ModelProto model,
        string folder,
        IEnumerable<string> names,
        params TensorElementType[] types
    )
        where T : unmanaged
    {
        var index = new GraphFacts(model).Main.Index;
        var initializers = model.Graph.Initializer.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var part = new ModelProto
        {
            IrVersion = model.IrVersion,
            Graph = new GraphProto { Name = "constants" },
        };
        part.OpsetImport.AddRange(model.OpsetImport);
        part.Functions.AddRange(model.Functions);
        var (nodes, tensors) = (new HashSet<NodeProto>(ReferenceEqualityComparer.Instance), new HashSet<string>(StringComparer.Ordinal));
        var wanted = names.Distinct().Where(n => Follows(n, [], [])).ToList();
        foreach (var name in wanted)
            Follows(name, nodes, tensors);
        part.Graph.Node.AddRange(model.Graph.Node.Where(nodes.Contains));
        part.Graph.Initializer.AddRange(tensors.Select(t => Inline(initializers[t], folder)));
        var outputs = wanted.Select((_, i) => $"constant:{i}").ToList();
        for (var i = 0; i < wanted.Count; i++)
        {
            part.Graph.Node.Add(ModelEdit.Node("Identity", [wanted[i]], [outputs[i]]));
            part.Graph.Output.Add(new ValueInfoProto { Name = outputs[i] });
        }
        var values = new Dictionary<string, T[]>(StringComparer.Ordinal);
        if (wanted.Count == 0)
            return values;
        using var options = ModelRunner.Options();
        using var session = ModelRunner.Open(part, folder, options);
        using var run = new RunOptions();
        using var made = session.Run(run, new Dictionary<string, OrtValue>(), outputs);
        for (var i = 0; i < wanted.Count; i++)
            if (types.Contains(made[i].GetTensorTypeAndShape().ElementDataType))
                values[wanted[i]] = MemoryMarshal.Cast<byte, T>(made[i].GetTensorMutableRawData()).ToArray();
        return values;

        bool Follows(string name, HashSet<NodeProto> through, HashSet<string> constants)
        {
            if (name.Length == 0)
                return true;
            if (initializers.ContainsKey(name))
            {
                constants.Add(name);
                return true;
            }
            if (index.Producer(name) is not { } producer || GraphScope.Subgraphs(producer).Any())
                return false;
            return !through.Add(producer) || producer.Input.All(i => Follows(i, through, constants));
        }
    }

    // ONNX Runtime infers shapes from numbers in the model alone, as the sizes of a Split of many outputs.
    private static TensorProto Inline(TensorProto tensor, string folder)
    {
        if (tensor.DataType != (int)TensorProto.Types.DataType.Int64 || TensorRef.From(tensor, tensor.Name) is not { File: { } file } at)
            return tensor;
        using var stream = File.OpenRead(Path.Combine(folder, file));
        var bytes = new byte[at.Elements * sizeof(long)];
        stream.Position = at.Offset;
        stream.ReadExactly(bytes);
        var inline = ModelEdit.Tensor(TensorProto.Types.DataType.Int64, bytes, [.. tensor.Dims]);
        inline.Name = tensor.Name;
        return inline;
    }
}
