namespace Serverless.Core.Techniques;

/// <summary>Lets a recipe write a word for one of an option's numbers.</summary>
/// <param name="text">The word.</param>
/// <param name="value">The number that it stands for.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class WordAttribute(string text, int value) : Attribute
{
    /// <summary>The word.</summary>
    public string Text { get; } = text;

    /// <summary>The number that it stands for.</summary>
    public int Value { get; } = value;
}
