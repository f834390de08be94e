using Google.Protobuf;
using Serverless.Core.Model.Schema;

namespace Serverless.TestSupport;

/// <summary>One way to change a model. It returns what it changed, or null where the model has nothing of the kind.</summary>
/// <param name="Name">Its name in tables.</param>
/// <param name="Apply">Changes a model in place.</param>
internal sealed record MutationRecipe(string Name, Func<ModelProto, Random, string?> Apply);

/// <summary>A changed model; the same for the same model, seed and number.</summary>
/// <param name="Model">Name of the model it was made of.</param>
/// <param name="Recipes">Names of the recipes.</param>
/// <param name="What">The changes.</param>
/// <param name="Bytes">The file.</param>
internal sealed record Mutant(string Model, IReadOnlyList<string> Recipes, string What, byte[] Bytes)
{
    private const int OneInThisHasTwo = 4,
        OneInThisIsWireLevel = 25,
        Tries = 40;

    /// <summary>All recipes that change a parsed model.</summary>
    public static readonly MutationRecipe[] All =
    [
        .. TensorMutations.All,
        .. NodeMutations.All,
        .. AttributeMutations.All,
        .. GraphMutations.All,
        .. ModelMutations.All,
    ];

    /// <summary>Makes one.</summary>
    /// <param name="name">Name of the model.</param>
    /// <param name="original">The model's file.</param>
    /// <param name="seed">Seed of the series.</param>
    /// <param name="number">Number in the series.</param>
    public static Mutant Make(string name, byte[] original, int seed, int number)
    {
        var random = new Random(unchecked((seed * 1_000_003) + number));
        if (random.Next(OneInThisIsWireLevel) == 0)
            return new Mutant(name, ["wire"], "bytes", Mutations.Damage(original, random.Next(4), random));
        var model = ModelProto.Parser.ParseFrom(original);
        var (recipes, what) = (new List<string>(), new List<string>());
        var count = random.Next(OneInThisHasTwo) == 0 ? 2 : 1;
        for (var i = 0; i < Tries && recipes.Count < count && model.Graph is { Node.Count: > 0 }; i++)
        {
            var recipe = All[random.Next(All.Length)];
            if (recipe.Apply(model, random) is not { } done)
                continue;
            recipes.Add(recipe.Name);
            what.Add($"{recipe.Name}: {done}");
        }
        return new Mutant(name, recipes, string.Join("; ", what), model.ToByteArray());
    }
}

/// <summary>Choices that recipes make.</summary>
internal static class Choice
{
    public static T Of<T>(this Random random, IReadOnlyList<T> items) => items[random.Next(items.Count)];

    /// <summary>Any graph of the model: the main one half of the time, else one of all.</summary>
    public static GraphProto Graph(this Random random, ModelProto model) =>
        random.Next(2) == 0 ? model.Graph : random.Of(Graphs(model.Graph).ToList());

    /// <summary>Any node of any graph, or null.</summary>
    public static NodeProto? Node(this Random random, ModelProto model, Func<NodeProto, bool>? where = null)
    {
        var nodes = random.Graph(model).Node.Where(n => where is null || where(n)).ToList();
        return nodes.Count == 0 ? null : random.Of(nodes);
    }

    /// <summary>Any weight of any graph: initializers and the tensors of Constant nodes; three of four times one of two dimensions or
    /// more.</summary>
    public static TensorProto? Tensor(this Random random, ModelProto model, bool floats = false)
    {
        var graph = random.Graph(model);
        var all = graph
            .Initializer.Concat(
                graph.Node.Where(n => n.OpType == "Constant").SelectMany(n => n.Attribute).Select(a => a.T).OfType<TensorProto>()
            )
            .Where(t => !floats || t.DataType == (int)TensorProto.Types.DataType.Float)
            .ToList();
        var large = all.Where(t => t.Dims.Count > 1).ToList();
        if (large.Count > 0 && random.Next(4) > 0)
            return random.Of(large);
        return all.Count == 0 ? null : random.Of(all);
    }

    /// <summary>A graph and those inside it.</summary>
    public static IEnumerable<GraphProto> Graphs(GraphProto graph) =>
        graph
            .Node.SelectMany(n => n.Attribute)
            .SelectMany(a => a.G is null ? a.Graphs : a.Graphs.Prepend(a.G))
            .SelectMany(Graphs)
            .Prepend(graph);

    /// <summary>Makes every use of a value in a graph and those inside it mean another.</summary>
    public static void Redirect(GraphProto graph, string from, string to)
    {
        foreach (var g in Graphs(graph))
        {
            foreach (var n in g.Node)
                for (var i = 0; i < n.Input.Count; i++)
                    if (n.Input[i] == from)
                        n.Input[i] = to;
            foreach (var o in g.Output.Where(o => o.Name == from))
                o.Name = to;
        }
    }
}
