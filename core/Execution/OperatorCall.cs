using System.Globalization;
using System.Text;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Execution;

/// <summary>What an operator takes.</summary>
/// <param name="Type">Element type.</param>
/// <param name="Dims">Its shape.</param>
/// <param name="Stored">Whether the model stores it, so that the runtime may lay it out beforehand.</param>
public sealed record Operand(DataType Type, IReadOnlyList<long> Dims, bool Stored)
{
    /// <summary>Bytes of its elements.</summary>
    internal long Bytes => Dims.Aggregate(DataTypes.Bits((int)Type) / 8L, MultiplyAccumulates.Times);
}

/// <summary>An operator of ONNX's own domain at one shape: all that its time depends on, on one machine.</summary>
/// <param name="Op">The operator.</param>
/// <param name="Opset">The operator set.</param>
/// <param name="Attributes">Its attributes.</param>
/// <param name="Operands">What it takes, in order; null for an optional input that is left out.</param>
public sealed record OperatorCall(string Op, long Opset, IReadOnlyList<AttributeProto> Attributes, IReadOnlyList<Operand?> Operands)
{
    /// <summary>
    /// A text that is the same for calls that take the same time: <c>Conv 13 group=1 strides=2,2 | Float[1,3,48,320] Float*[32,3,3,3]</c>.
    /// </summary>
    public string Key
    {
        get
        {
            var text = new StringBuilder().Append(Op).Append(' ').Append(Number(Opset));
            foreach (var a in Attributes.OrderBy(a => a.Name, StringComparer.Ordinal))
                text.Append(' ').Append(a.Name).Append('=').Append(Value(a));
            text.Append(" |");
            foreach (var o in Operands)
                text.Append(' ').Append(o is null ? "-" : $"{o.Type}{(o.Stored ? "*" : "")}[{string.Join(',', o.Dims.Select(Number))}]");
            return text.ToString();
        }
    }

    private static string Value(AttributeProto a) =>
        a.Type switch
        {
            AttributeProto.Types.AttributeType.Int => Number(a.I),
            AttributeProto.Types.AttributeType.Ints => string.Join(',', a.Ints.Select(Number)),
            AttributeProto.Types.AttributeType.Float => a.F.ToString("R", CultureInfo.InvariantCulture),
            AttributeProto.Types.AttributeType.String => Convert.ToHexStringLower(a.S.Span),
            _ => a.Type.ToString(),
        };

    private static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);
}
