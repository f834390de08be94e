using System.Globalization;
using Serverless.Core.Model;

namespace Serverless.Core.Techniques.Pruning;

/// <summary>
/// Which weights become zero together: any, all but N of M consecutive inputs of a row (Mishra et al. 2021, "Accelerating Sparse Deep
/// Neural Networks", section 3), or whole blocks of rows and columns (Narang et al. 2017, "Block-Sparse Recurrent Neural Networks").
/// </summary>
/// <param name="Keep">Of N:M, the inputs that are kept; else 0.</param>
/// <param name="Of">Of N:M, the inputs of a group; else 0.</param>
/// <param name="Rows">Rows of a block; else 0.</param>
/// <param name="Columns">Columns of a block; else 0.</param>
internal readonly record struct SparsityPattern(int Keep, int Of, int Rows, int Columns)
{
    public const string None = "none";

    /// <summary>How a recipe writes one.</summary>
    public const string Syntax = "none|[1-9][0-9]?:[1-9][0-9]?|[1-9][0-9]{0,4}x[1-9][0-9]{0,4}";

    /// <summary>Largest group of N:M.</summary>
    public const int MostOf = 32;

    private const int LeastBlock = 4;

    public bool IsGroups => Of > 0;

    public bool IsBlocks => Rows > 0;

    /// <summary>Of N:M, the share that becomes zero.</summary>
    public double Sparsity => 1 - (double)Keep / Of;

    /// <summary>A pattern as a recipe has it.</summary>
    /// <param name="text">none, N:M or RxC.</param>
    public static SparsityPattern Parse(string text)
    {
        if (text == None)
            return default;
        var numbers = text.Split(':', 'x').Select(n => int.Parse(n, CultureInfo.InvariantCulture)).ToArray();
        return text.Contains(':', StringComparison.Ordinal)
            ? new SparsityPattern(numbers[0], numbers[1], 0, 0)
            : new SparsityPattern(0, 0, numbers[0], numbers[1]);
    }

    /// <summary>Why it makes no sense whatever the layer is, in a sentence, or null.</summary>
    public string? WhyInvalid() =>
        IsGroups && (Keep >= Of || Of > MostOf) ? $"'pattern: {this}' is none: of N:M, N is less than M, and M is {MostOf} at most"
        : IsBlocks && (long)Rows * Columns < LeastBlock
            ? $"'pattern: {this}' has blocks of fewer than {LeastBlock} weights: take larger ones, or none"
        : null;

    /// <summary>Why a weight cannot have it, for the report, or null.</summary>
    /// <param name="weight">The weight.</param>
    /// <param name="shape">Its view.</param>
    public string? WhyNot(Weight weight, LayerShape shape)
    {
        if (IsGroups && weight.Uses.All(u => u.Op == "Gather"))
            return $"not pruned {this}: its rows are looked up, not multiplied with inputs";
        if (IsGroups && shape.Axis < Of)
            return $"not pruned {this}: its outputs have {shape.Axis} inputs";
        return IsBlocks && new BlockGrid(shape, Rows, Columns).Count < 2
            ? $"not pruned {this}: it is one block, of {shape.Rows} outputs and {shape.Axis} inputs"
            : null;
    }

    /// <summary>How many of some inputs of a group are kept: the share of a whole one, rounded up.</summary>
    /// <param name="inputs">As many as a group has, or those that are left at the end of a row.</param>
    public int KeptOf(int inputs) => (inputs * Keep + Of - 1) / Of;

    public override string ToString() =>
        IsGroups ? $"{Keep}:{Of}"
        : IsBlocks ? $"{Rows}x{Columns}"
        : None;
}
