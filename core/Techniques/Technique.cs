using System.Reflection;
using System.Text.Json;

namespace Serverless.Core.Techniques;

/// <summary>Where a step stands among the others of a recipe.</summary>
public enum StepOrder
{
    /// <summary>Where the recipe has it.</summary>
    AsWritten,

    /// <summary>In front of all others, wherever the recipe has it.</summary>
    First,

    /// <summary>Behind all others, wherever the recipe has it.</summary>
    Last,
}

/// <summary>Properties that steps give the weights of a model, and that later steps have to know of.</summary>
[Flags]
public enum ModelTraits
{
    /// <summary>Dense weights as they were dropped.</summary>
    None = 0,

    /// <summary>Some weights were set to zero and are to stay so.</summary>
    Masked = 1,

    /// <summary>Weights were replaced by products of smaller ones.</summary>
    Factored = 2,

    /// <summary>Weights were replaced by codes.</summary>
    Coded = 4,
}

/// <summary>A technique with its options.</summary>
/// <param name="Technique">The technique.</param>
/// <param name="Options">Its options record.</param>
public sealed record Setting(Technique Technique, object Options);

/// <summary>
/// A step of a recipe. It registers by existing in a registered assembly: one file, with its options record, and a recipe can name it.
/// </summary>
public abstract class Technique
{
    private static readonly Lock Gate = new();
    private static readonly HashSet<Assembly> Assemblies = [];
    private static IReadOnlyList<Technique> known = Of(typeof(Technique).Assembly);

    /// <summary>Every technique of the registered assemblies, by step and method.</summary>
    public static IReadOnlyList<Technique> All => known;

    /// <summary>The recipe's key: <c>quantize</c>.</summary>
    public abstract string Step { get; }

    /// <summary>The recipe's <c>method</c>: <c>rtn</c>; empty where the step has one method alone.</summary>
    public virtual string Method => "";

    /// <summary>What the method is, in a sentence, with its source.</summary>
    public abstract string About { get; }

    /// <summary>The options record; a public parameterless constructor gives the defaults.</summary>
    public abstract Type OptionsType { get; }

    /// <summary>Whether a step that names no method means this one.</summary>
    public virtual bool IsDefault => false;

    /// <summary>Whether every recipe has this step, with its defaults where it does not name it.</summary>
    public virtual bool IsImplied => false;

    /// <summary>Whether a recipe can name it; else it only follows other steps (<see cref="LayerTechnique.Behind"/>).</summary>
    public virtual bool InRecipes => true;

    /// <summary>Whether a recipe may have the step more than once.</summary>
    public virtual bool Repeats => false;

    /// <summary>Where the step stands among the others.</summary>
    public virtual StepOrder Order => StepOrder.AsWritten;

    /// <summary>Why a combination of options makes no sense, or null.</summary>
    public virtual string? WhyInvalid(object options) => null;

    /// <summary>The options of the steps that the recipe's step stands for, one after another; by default its own alone.</summary>
    public virtual IReadOnlyList<object> Expand(object options) => [options];

    /// <summary>Why the step makes no sense on weights that earlier steps left so, in a sentence with the remedy, or null.</summary>
    /// <param name="before">Properties of the weights.</param>
    public virtual string? WhyNotOn(ModelTraits before) => null;

    /// <summary>Properties of the weights after the step.</summary>
    /// <param name="before">Properties before it.</param>
    public virtual ModelTraits Leaves(ModelTraits before) => before;

    /// <summary>
    /// The options with those decided that depend on this machine: settled once a run, so that the result does not depend on the
    /// machine that carries out the step.
    /// </summary>
    public virtual object Settled(object options) => options;

    /// <summary>Makes the techniques of an assembly known to recipes.</summary>
    /// <param name="assembly">The assembly.</param>
    /// <exception cref="ArgumentException">It has a technique whose step and method are taken.</exception>
    public static void Register(Assembly assembly)
    {
        lock (Gate)
        {
            if (assembly == typeof(Technique).Assembly || !Assemblies.Add(assembly))
                return;
            IReadOnlyList<Technique> more = [.. known.Concat(Of(assembly)).OrderBy(t => t.Step, StringComparer.Ordinal)];
            if (more.GroupBy(t => (t.Step, t.Method)).FirstOrDefault(g => g.Count() > 1) is { } twice)
                throw new ArgumentException($"{assembly.GetName().Name}: the technique {twice.Key} is there already.", nameof(assembly));
            known = more;
        }
    }

    /// <summary>Those that a recipe can name.</summary>
    public static IEnumerable<Technique> Named => All.Where(t => t.InRecipes);

    /// <summary>The technique of a step and method.</summary>
    /// <exception cref="InvalidOperationException">There is none.</exception>
    public static Technique Of(string step, string method) =>
        All.FirstOrDefault(t => t.Step == step && t.Method == method)
        ?? throw new InvalidOperationException($"No technique '{method}' of '{step}' is registered.");

    /// <summary>The options record that JSON holds.</summary>
    public object Options(JsonElement json) => json.Deserialize(OptionsType, Json.Options)!;

    private static IReadOnlyList<Technique> Of(Assembly assembly) =>
        [
            .. SubclassSearch
                .Of(assembly, typeof(Technique))
                .Select(t => (Technique)Activator.CreateInstance(t)!)
                .OrderBy(t => t.Step, StringComparer.Ordinal)
                .ThenBy(t => t.Method, StringComparer.Ordinal),
        ];
}
