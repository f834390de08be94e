using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>What is known of a value without running the model.</summary>
/// <param name="Type">Element type; <see cref="DataType.Undefined"/> when it is not known.</param>
/// <param name="Shape">Its axes; null when not even their number is known.</param>
public sealed record ValueFact(DataType Type, IReadOnlyList<Dim>? Shape)
{
    /// <summary>Of a value that nothing is known of.</summary>
    public static ValueFact Unknown { get; } = new(DataType.Undefined, null);

    /// <summary>
    /// The whole numbers that it holds, as shapes and indices do, where they are known: in order, of a scalar, vector or matrix.
    /// </summary>
    public IReadOnlyList<ShapeNumber>? Numbers { get; internal init; }

    /// <summary>The whole numbers that it holds, where each is the same in every run.</summary>
    public IReadOnlyList<long>? Constants
    {
        get
        {
            if (Numbers is null)
                return null;
            var values = new long[Numbers.Count];
            for (var n = 0; n < values.Length; n++)
            {
                if (Numbers[n].Value?.Value is not { } value)
                    return null;
                values[n] = value;
            }
            return values;
        }
    }

    /// <summary>The floats that it holds, where they are few and stored in the model, as scales of Resize are.</summary>
    internal IReadOnlyList<float>? Floats { get; init; }

    /// <summary>Number of elements; null when it is not known or too long an expression.</summary>
    internal Dim? Elements => Shape?.Aggregate((Dim?)Dim.One, Dim.Multiply);

    /// <inheritdoc/>
    public override string ToString() => $"{DataTypes.Name((int)Type)}[{(Shape is null ? "?" : string.Join(", ", Shape))}]";
}

/// <summary>An element of a tensor of whole numbers, as shapes are computed of.</summary>
/// <param name="Value">The number, which may depend on dynamic lengths; null when it is not known.</param>
/// <param name="Lengths">Axes whose lengths it was computed from.</param>
public readonly record struct ShapeNumber(Dim? Value, IReadOnlyList<ValueAxis> Lengths);

/// <summary>An axis of a value.</summary>
/// <param name="Scope">The scope that defines the value.</param>
/// <param name="Value">Its name there.</param>
/// <param name="Axis">The axis.</param>
public readonly record struct ValueAxis(GraphScope Scope, string Value, int Axis);
