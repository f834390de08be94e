using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>A rule that says which indices of an operator's inputs and outputs are one and the same.</summary>
internal delegate void CouplingRule(CoupledNode node);

/// <summary>A node whose inputs' indices are known; a rule couples them and makes those of the outputs.</summary>
/// <param name="scope">The scope of the node.</param>
/// <param name="node">The node.</param>
/// <param name="inputs">The inputs; null of one left out.</param>
/// <param name="inferred">Shapes and numbers of inputs and outputs.</param>
/// <param name="uses">Takes the uses of constants.</param>
/// <param name="lengths">Takes the numbers that are lengths.</param>
/// <param name="axisOf">The indices of an axis.</param>
internal sealed class CoupledNode(
    GraphScope scope,
    NodeProto node,
    IReadOnlyList<CoupledValue?> inputs,
    InferredNode inferred,
    List<ConstantUse> uses,
    List<LengthUse> lengths,
    Func<ValueAxis, IndexSet?> axisOf
)
{
    private const int MostSources = 64;
    private readonly string where = node.Shown();
    private readonly bool constant = inputs.Count > 0 && inputs.All(i => i is null or { Sources: not null });

    /// <summary>The node.</summary>
    public NodeProto Node => node;

    /// <summary>Shapes and numbers.</summary>
    public InferredNode Shapes => inferred;

    /// <summary>Inputs.</summary>
    public int Count => inputs.Count;

    /// <summary>The outputs; null where the rule made none.</summary>
    public CoupledValue?[] Outputs { get; } = new CoupledValue?[node.Output.Count];

    /// <summary>How a reason names the node.</summary>
    public string Where => where;

    /// <summary>Whether an input is given.</summary>
    public bool Has(int input) => input < inputs.Count && inputs[input] is not null;

    /// <summary>Indices of an input's axes; null when its rank is not known or it is left out.</summary>
    public IReadOnlyList<IndexSet>? Axes(int input) => input < inputs.Count ? inputs[input]?.Axes : null;

    /// <summary>Whether an input is made of constants alone.</summary>
    public bool IsConstant(int input) => input < inputs.Count && inputs[input]?.Sources is not null;

    /// <summary>Whether the input is zero at zero units of an axis. Constants are, unless they are parameters.</summary>
    public bool Zero(int input, int axis, ChannelRole role = ChannelRole.Parameter)
    {
        if (input >= inputs.Count || inputs[input] is not { Axes: { } axes } value || axes[axis].Size.Is(1))
            return false;
        return value.Sources is null || constant ? value.Zero[axis] : role != ChannelRole.Parameter;
    }

    /// <summary>Notes what an axis of an input is taken for, where it is a constant.</summary>
    public void Use(int input, int axis, ChannelRole role)
    {
        // Among constants nothing is decided yet: whatever takes the result decides.
        if (!constant && IsConstant(input))
            uses.Add(new ConstantUse(scope, node, input, inputs[input]!, axis, role));
    }

    /// <summary>Makes an output.</summary>
    public void Make(int output, IReadOnlyList<IndexSet> axes, IReadOnlyList<bool> zero)
    {
        if (output >= Outputs.Length)
            return;
        Outputs[output] = new CoupledValue(Inferred(output, axes), zero, Sources());
        if (Outputs[output]!.Sources is { Count: > MostSources })
            foreach (var set in axes)
                set.Freeze($"{where} makes it of too many constants");
    }

    // Where it was inferred that an axis may have another length, as what two unknown ones are broadcast to, it is one of its own.
    private IReadOnlyList<IndexSet> Inferred(int output, IReadOnlyList<IndexSet> axes)
    {
        if (inferred.Outputs[output]?.Shape is not { } shape || shape.Count != axes.Count)
            return axes;
        IndexSet[]? own = null;
        for (var a = 0; a < axes.Count; a++)
        {
            if (axes[a].Size.Equals(shape[a]))
                continue;
            axes[a].Freeze($"{where} makes a length of it that is not known");
            (own ??= [.. axes])[a] = IndexSet.Leaf(shape[a], $"{where} makes a length that is not known");
        }
        return own ?? axes;
    }

    /// <summary>Makes an output of axes that no channels are known of.</summary>
    public void MakeFrozen(int output, string why)
    {
        if (output >= Outputs.Length)
            return;
        var axes = inferred.Outputs[output]?.Shape?.Select(d => IndexSet.Leaf(d, why)).ToArray();
        Outputs[output] = new CoupledValue(axes, new bool[axes?.Length ?? 0], Sources());
    }

    /// <summary>A length of an output, as it was inferred.</summary>
    public Dim Length(int output, int axis) => inferred.Outputs[output]!.Shape![axis];

    /// <summary>Whether an output's number of axes was inferred.</summary>
    public int? Rank(int output) => output < inferred.Outputs.Length ? inferred.Outputs[output]?.Shape?.Count : null;

    /// <summary>Says that nothing of an input's axis can be removed.</summary>
    public void Freeze(int input, int axis, string why) => Axes(input)?[axis].Freeze($"{where} {why}");

    /// <summary>Says that nothing of an input can be removed.</summary>
    public void Freeze(int input, string why)
    {
        foreach (var set in Axes(input) ?? [])
            set.Freeze($"{where} {why}");
    }

    /// <summary>Says that nothing of what goes through the node can be removed.</summary>
    public void FreezeAll(string why)
    {
        for (var i = 0; i < inputs.Count; i++)
        {
            Freeze(i, why);
            // A weight is one wherever it stands, and what keeps it is told.
            for (var a = 0; Axes(i) is { Count: > 1 } axes && a < axes.Count; a++)
                Use(i, a, ChannelRole.Producer);
        }
        for (var o = 0; o < Outputs.Length; o++)
            MakeFrozen(o, $"{where} {why}");
    }

    /// <summary>Couples two axes.</summary>
    public void Unify(IndexSet a, IndexSet b) => IndexAlgebra.Unify(a, b, where);

    /// <summary>Sees an axis as two whose indices are combined.</summary>
    public (IndexSet Outer, IndexSet Inner) Factor(IndexSet set, long outer)
    {
        if (Dim.Divide(set.Size, Dim.Of(outer)) is { } inner)
            return IndexAlgebra.Factor(set, Dim.Of(outer), inner, where);
        set.Freeze($"{where} cuts {set.Size} into {outer}");
        return (IndexSet.Leaf(Dim.Of(outer), where), IndexSet.Leaf(Dim.Symbol("?"), where));
    }

    /// <summary>Cuts an axis of known length in two.</summary>
    public (IndexSet Before, IndexSet Behind) Split(IndexSet set, long at) => IndexAlgebra.Split(set, at, where);

    /// <summary>Axes that a runtime makes and whose lengths stay.</summary>
    public IndexSet Made(Dim size, string why) => IndexSet.Leaf(size, $"{where} {why}");

    /// <summary>Notes that an attribute is the length of a set.</summary>
    public void Length(string attribute, IndexSet set, int element = 0) =>
        lengths.Add(new LengthUse(scope, node, attribute, -1, element, set, []));

    /// <summary>
    /// Notes that an element of an input is the length of a set. Where the number is computed in each run, the set has to be what it is
    /// computed from, which cannot be told here: it is frozen.
    /// </summary>
    public void Length(int input, int element, IndexSet set)
    {
        var number = inferred.Numbers(input) is { } numbers && element < numbers.Count ? numbers[element] : (ShapeNumber?)null;
        var from = (number?.Lengths ?? []).Select(axisOf).OfType<IndexSet>().ToList();
        if (set.Size.Value is not null)
        {
            lengths.Add(new LengthUse(scope, node, null, input, element, set, from));
            return;
        }
        set.Freeze($"its length is computed for {where}");
        foreach (var f in from.Where(f => f.Size.Value is not null))
            f.Freeze($"its length is computed with for {where}");
    }

    /// <summary>Says that the lengths which a node's settings are computed from cannot change.</summary>
    public void FreezeLengths(int input)
    {
        foreach (var axis in (inferred.Numbers(input) ?? []).SelectMany(n => n.Lengths).Distinct())
            axisOf(axis)?.Freeze($"its length is computed with in {where}");
    }

    /// <summary>Says that the lengths which one number of a node's settings is computed from cannot change.</summary>
    public void FreezeLengths(int input, int element)
    {
        if (inferred.Numbers(input) is { } numbers && element < numbers.Count)
            foreach (var axis in numbers[element].Lengths)
                axisOf(axis)?.Freeze($"its length is computed with in {where}");
    }

    private List<CoupledConstant>? Sources()
    {
        if (!constant)
            return null;
        return [.. inputs.SelectMany(i => i?.Sources ?? []).Distinct().Take(MostSources + 1)];
    }
}
