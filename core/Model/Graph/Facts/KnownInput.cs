using System.Buffers.Binary;
using Google.Protobuf;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>What a run is known to give an input.</summary>
/// <param name="Shape">Its shape.</param>
/// <param name="Numbers">
/// The whole numbers or truth values of a scalar or short vector, which decide on branches and lengths; else null.
/// </param>
public sealed record KnownInput(long[] Shape, long[]? Numbers = null)
{
    private const int MostNumbers = 16;

    /// <summary>Whether numbers of that shape decide on branches or lengths: those of a scalar or a vector of up to 16.</summary>
    internal static bool IsDecisive(long[] shape) => shape is [] or [>= 0 and <= MostNumbers];

    /// <summary>A copy of a model whose graph knows its inputs.</summary>
    /// <param name="model">The model.</param>
    /// <param name="inputs">What is known, by the name of the input.</param>
    internal static ModelProto GiveAll(ModelProto model, IReadOnlyDictionary<string, KnownInput> inputs)
    {
        var sized = model.Clone();
        foreach (var input in sized.Graph.Input.ToList())
            if (inputs.TryGetValue(input.Name, out var known) && input.Type?.TensorType is { } type)
                known.Give(sized.Graph, input, type);
        return sized;
    }

    /// <summary>Lets a graph know it: a shape is declared, numbers become a constant in the input's place.</summary>
    internal void Give(GraphProto graph, ValueInfoProto input, TypeProto.Types.Tensor type)
    {
        type.Shape = new TensorShapeProto { Dim = { Shape.Select(d => new TensorShapeProto.Types.Dimension { DimValue = d }) } };
        if (Numbers is null || Width((DataType)type.ElemType) is not { } width)
            return;
        graph.Input.Remove(input);
        foreach (var overridden in graph.Initializer.Where(t => t.Name == input.Name).ToList())
            graph.Initializer.Remove(overridden);
        graph.Initializer.Add(
            new TensorProto
            {
                Name = input.Name,
                DataType = type.ElemType,
                Dims = { Shape },
                RawData = ByteString.CopyFrom([.. Numbers.SelectMany(n => Bytes(n)[..width])]),
            }
        );
    }

    private static byte[] Bytes(long number)
    {
        var bytes = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, number);
        return bytes;
    }

    private static int? Width(DataType type) =>
        type switch
        {
            DataType.Int64 => 8,
            DataType.Int32 => 4,
            DataType.Bool => 1,
            _ => null,
        };
}
