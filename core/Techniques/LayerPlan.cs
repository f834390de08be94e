using System.Text.Json.Serialization;
using Serverless.Core.Forms;
using Serverless.Core.Model;
using Serverless.Core.Statistics;

namespace Serverless.Core.Techniques;

/// <summary>What a technique would do with a layer, decided from its shape alone.</summary>
/// <param name="Form">How the result stands in the model.</param>
/// <param name="Bits">Bits a weight.</param>
/// <param name="Block">Weights that share a scale.</param>
/// <param name="BytesAfter">Bytes it will take, graph nodes included.</param>
/// <param name="WorkingBytes">Memory that compressing it needs.</param>
public sealed record LayerPlan(string Form, int Bits, int Block, long BytesAfter, long WorkingBytes)
{
    /// <summary>The graph nodes' part of <see cref="BytesAfter"/>.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public long NodeBytes { get; init; }

    /// <summary>Bytes that the values will take, as reports count them.</summary>
    [JsonIgnore]
    public long ValueBytes => BytesAfter - NodeBytes;

    /// <summary>How the weight is viewed, where the technique wants another view than the layer's; else null.</summary>
    public LayerShape? Shape { get; init; }

    /// <summary>Whether the rank follows from the weights, and is at most that of the plan.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool IsMost { get; init; }

    /// <summary>The weight as outputs × inputs × kernel, of a product in its place; else null.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ProductLayout? Layout { get; init; }

    /// <summary>Factors of that product, as far as they follow from the shape; else those of one that is allowed.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<ProductFactor>? Factors { get; init; }

    /// <summary>Columns of the first of two factors, at most; 0 where the weight does not become a product.</summary>
    public int Rank { get; init; }

    /// <summary>
    /// Multiply-accumulates of one position afterwards, as a product of rank r takes r·(rows + columns); null where they stay those of the
    /// layer: one an element.
    /// </summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? MultiplyAccumulates { get; init; }

    /// <summary>Share of the weights that are not set to zero; null where none is.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Density { get; init; }

    /// <summary>Why the form is not the one that the technique is for, or null.</summary>
    public string? Instead { get; init; }

    /// <summary>A sentence that whoever uses the result should read first, or null.</summary>
    public string? Warning { get; init; }

    /// <summary>How the layer's input and output are rounded, when they are.</summary>
    public ActivationRounding? Activation { get; init; }

    /// <summary>The operator set that the weight's scope imports.</summary>
    public long Opset { get; init; }
}

/// <summary>How activations are rounded.</summary>
/// <param name="Range">How their range is chosen.</param>
/// <param name="Percentile">Percent of the values inside, for <see cref="RangeMethod.Percentile"/>.</param>
public sealed record ActivationRounding(RangeMethod Range, double Percentile);

/// <summary>A layer at work.</summary>
/// <param name="Weight">The weight's values.</param>
/// <param name="Shape">How to view them.</param>
/// <param name="Plan">From <see cref="LayerTechnique.Plan"/>.</param>
public sealed record LayerWork(WeightReader Weight, LayerShape Shape, LayerPlan Plan)
{
    /// <summary>What is known of the layer's input, when the technique asked for it and it could be observed.</summary>
    public InputStatistics? Input { get; init; }

    /// <summary>Why nothing is known of it, or null.</summary>
    public string? NotObserved { get; init; }

    /// <summary>Why the Gram matrices of the layer's input are of no use, or null.</summary>
    internal string? WhyNoGram =>
        Input switch
        {
            null => NotObserved ?? "there are no statistics of its input",
            { GramAxis: 0 } or { GramRows: 0 } => "no sample reached it",
            { GramAxis: var axis } when axis != Shape.Axis => "its input has another shape than its rows",
            { GramGroups: var groups } when Shape.Rows % groups != 0 => "its groups do not divide its rows",
            _ => null,
        };

    /// <summary>Why the squares of the layer's input are of no use, or null; the Gram matrices have them too.</summary>
    internal string? WhyNoSquares =>
        Input switch
        {
            null or { SquaresRows: 0 } or { Squares: null } => WhyNoGram,
            { Squares: var squares } when squares[0].Length != Shape.Axis => "its input has another shape than its rows",
            { Squares: var squares } when Shape.Rows % squares.Length != 0 => "its groups do not divide its rows",
            _ => null,
        };

    /// <summary>Whether zeros of the weight are pruned ones, which have to stay zero.</summary>
    public bool Masked { get; init; }

    /// <summary>
    /// The weight before the step directly in front set some of it to zero; null where no such step is directly in front in the chain, or
    /// the weights that it left make up for the others.
    /// </summary>
    public WeightReader? Unmasked { get; init; }
}
