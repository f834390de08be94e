using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model;

namespace Serverless.Core.Execution;

/// <summary>One tensor as bytes: little-endian, row-major.</summary>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Dimensions.</param>
/// <param name="Bytes">Elements; of strings, a hash of 8 bytes each.</param>
public sealed record TensorValue(TensorElementType Type, long[] Shape, byte[] Bytes)
{
    /// <summary>Number of elements.</summary>
    public long Elements => Shape.Aggregate(1L, (a, b) => a * b);

    /// <summary>What a graph may know of the value: its shape, and numbers that decide on branches or lengths.</summary>
    internal KnownInput Known =>
        new(
            Shape,
            KnownInput.IsDecisive(Shape) && ElementTypes.IsWhole(Type)
                ? [.. Enumerable.Range(0, (int)Elements).Select(i => (long)ElementTypes.Get(Bytes, Type, i))]
                : null
        );

    /// <summary>A copy of the tensor in ONNX Runtime's memory.</summary>
    public OrtValue ToOrt()
    {
        var value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, Type, Shape);
        Bytes.CopyTo(value.GetTensorMutableRawData());
        return value;
    }
}

/// <summary>The inputs of one run, and its label when there is one.</summary>
/// <param name="Inputs">Value of each model input.</param>
/// <param name="Labels">The right classes of this run's rows, or null.</param>
public sealed record Sample(IReadOnlyDictionary<string, TensorValue> Inputs, long[]? Labels)
{
    /// <summary>Samples of one group are compared together, and the worst group counts: synthetic ones of one loudness.</summary>
    public string Group { get; init; } = "";
}

/// <summary>What a model input takes.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Element type.</param>
/// <param name="Dims">Dimensions; null where dynamic; null altogether when the rank is open.</param>
/// <param name="Symbols">Names of dynamic dimensions, empty where they have none.</param>
public sealed record InputSpec(string Name, TensorElementType Type, long?[]? Dims, string[] Symbols)
{
    /// <summary>Why a model can be given no inputs here, or null.</summary>
    public static string? WhyNone(Model.Schema.ModelProto model)
    {
        var initializers = model.Graph.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        foreach (var v in model.Graph.Input.Where(v => !initializers.Contains(v.Name)))
        {
            if (v.Type?.TensorType is not { } t)
                return $"the input '{v.Name}' is not a tensor";
            if (ElementTypes.Size((TensorElementType)t.ElemType) == 0)
                return $"the input '{v.Name}' takes {(TensorElementType)t.ElemType}";
        }
        return null;
    }

    /// <summary>The inputs that a caller of the model has to give.</summary>
    /// <exception cref="BadInputException">One is not a tensor.</exception>
    public static IReadOnlyList<InputSpec> Of(Model.Schema.ModelProto model, string path)
    {
        var initializers = model.Graph.Initializer.Select(t => t.Name).ToHashSet(StringComparer.Ordinal);
        return
        [
            .. model
                .Graph.Input.Where(v => !initializers.Contains(v.Name))
                .Select(v =>
                {
                    if (v.Type?.TensorType is not { } t)
                        throw new BadInputException(
                            $"{path}: the input '{v.Name}' is not a tensor, so no data can be given for it; leave data.npz out."
                        );
                    if (t.Shape?.Dim.Any(d => d.DimValue < 0 || d.DimValue > int.MaxValue) == true)
                        throw new BadInputException($"{path}: the input '{v.Name}' has an impossible dimension; export the model again.");
                    var dims = t
                        .Shape?.Dim.Select(d =>
                            d.ValueCase == Model.Schema.TensorShapeProto.Types.Dimension.ValueOneofCase.DimValue && d.DimValue > 0
                                ? d.DimValue
                                : (long?)null
                        )
                        .ToArray();
                    var symbols = t.Shape?.Dim.Select(d => d.DimParam).ToArray() ?? [];
                    return new InputSpec(v.Name, (TensorElementType)t.ElemType, dims, symbols);
                }),
        ];
    }
}
