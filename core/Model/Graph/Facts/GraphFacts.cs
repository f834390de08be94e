using Serverless.Core.Model.Schema;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Core.Model;

/// <summary>
/// What is known of a model's graph without running it: who makes and takes each value, types and shapes, and groups of coupled
/// channels. Of the
/// model as it is: after an edit, ask anew.
/// </summary>
public sealed class GraphFacts
{
    private readonly ModelProto model;
    private readonly Lazy<ShapeInference> shapes;
    private readonly Lazy<ChannelGroups> groups;
    private readonly Lazy<ChannelGroups> folded;
    private readonly Dictionary<GraphScope, ScopeFacts> scopes = [];

    /// <summary>Of a model.</summary>
    public GraphFacts(ModelProto model)
        : this(model, GraphScope.Of(model)) { }

    /// <summary>Of a model whose scopes are at hand.</summary>
    /// <param name="model">The model.</param>
    /// <param name="roots">The main graph's scope, then those of functions.</param>
    public GraphFacts(ModelProto model, IReadOnlyList<GraphScope> roots)
    {
        (this.model, Roots) = (model, roots);
        shapes = new Lazy<ShapeInference>(Infer);
        groups = new Lazy<ChannelGroups>(() => ChannelGroups.Of(model, shapes.Value, roots[0], folded: false));
        folded = new Lazy<ChannelGroups>(() => ChannelGroups.Of(model, shapes.Value, roots[0], folded: true));
    }

    /// <summary>The main graph's scope, then those of functions.</summary>
    public IReadOnlyList<GraphScope> Roots { get; }

    /// <summary>Facts of the main graph.</summary>
    public ScopeFacts Main => In(Roots[0]);

    /// <summary>Groups of coupled channels of the main graph and its subgraphs; found when first asked for.</summary>
    public ChannelGroups Groups => groups.Value;

    /// <summary>
    /// The groups where whatever is computed of constants alone counts as a constant, as it does once a runtime has folded it; members
    /// of that kind hold no bytes.
    /// For rewrites that put nodes behind what decodes a weight.
    /// </summary>
    public ChannelGroups FoldedGroups => folded.Value;

    /// <summary>Facts of a scope.</summary>
    public ScopeFacts In(GraphScope scope)
    {
        if (!scopes.TryGetValue(scope, out var facts))
            scopes[scope] = facts = new ScopeFacts(scope, value => shapes.Value.Find(scope, value));
        return facts;
    }

    private ShapeInference Infer()
    {
        var inference = new ShapeInference(model);
        foreach (var root in Roots)
            inference.Run(root);
        return inference;
    }
}

/// <summary>Facts of one scope, by the names that its nodes use.</summary>
public sealed class ScopeFacts
{
    private readonly Func<string, ValueFact> find;

    internal ScopeFacts(GraphScope scope, Func<string, ValueFact> find) => (Scope, this.find) = (scope, find);

    /// <summary>The scope.</summary>
    public GraphScope Scope { get; }

    /// <summary>Who makes and takes each value, and its constants.</summary>
    public GraphIndex Index => Scope.Index;

    /// <summary>What is known of a value.</summary>
    public ValueFact Of(string value) => find(value);

    /// <summary>Its element type; <see cref="DataType.Undefined"/> when it is not known.</summary>
    public DataType Type(string value) => find(value).Type;

    /// <summary>Its axes; null when their number is not known.</summary>
    public IReadOnlyList<Dim>? Shape(string value) => find(value).Shape;

    /// <summary>Whole numbers that a value holds in every run; null where they are not known.</summary>
    public IReadOnlyList<long>? Constants(string value) => find(value).Constants;

    /// <summary>The branch of an If that every run takes; null where that is not known.</summary>
    /// <param name="node">A node of this scope.</param>
    public GraphScope? Taken(NodeProto node) =>
        ShapeInference.Taken(node, Scope.Children.Where(c => ReferenceEquals(c.Owner, node)), Constants(node.Input[0]));

    /// <summary>The initializer of that name, of the scope itself, that no caller may override; null where there is none.</summary>
    public TensorProto? Stored(string name) => Index.Initializer(name);

    /// <summary>The one node that takes a value, once and at one input alone; null where others do, or the graph puts it out.</summary>
    public NodeProto? OnlyConsumer(string value) => Index.OnlyConsumer(value);
}
