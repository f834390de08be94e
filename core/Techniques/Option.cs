namespace Serverless.Core.Techniques;

/// <summary>Documents an option of a technique for the recipe's validation and its JSON schema.</summary>
/// <param name="about">What it does, its default and its units, in one sentence.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class OptionAttribute(string about) : Attribute
{
    /// <summary>What it does, its default and its units.</summary>
    public string About { get; } = about;

    /// <summary>Smallest value allowed.</summary>
    public double Min { get; init; } = double.NegativeInfinity;

    /// <summary>Largest value allowed.</summary>
    public double Max { get; init; } = double.PositiveInfinity;

    /// <summary>The values allowed, when there are few.</summary>
    public int[] Values { get; init; } = [];

    /// <summary>A word that may stand for <see cref="WordValue"/>.</summary>
    public string? Word { get; init; }

    /// <summary>The number that <see cref="Word"/> stands for.</summary>
    public int WordValue { get; init; }
}
