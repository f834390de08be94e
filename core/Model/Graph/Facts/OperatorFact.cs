namespace Serverless.Core.Model;

/// <summary>What an operator does to the channels of its input.</summary>
public enum ChannelEffect
{
    /// <summary>Each element of the output depends on the elements at its place alone, inputs broadcast.</summary>
    Elementwise,

    /// <summary>Each channel of the output depends on that channel alone, over pixels.</summary>
    Pooling,

    /// <summary>Channels are scaled by statistics and by parameters of their own.</summary>
    Normalization,

    /// <summary>Each channel of the output is a weighted sum of channels of the input.</summary>
    Product,

    /// <summary>Channels, or what lies beside them, are gathered into one.</summary>
    Reduction,

    /// <summary>Elements are moved and not changed.</summary>
    Layout,

    /// <summary>A state of channels is carried from step to step.</summary>
    Recurrent,
}

/// <summary>When an operator makes zero of zero.</summary>
public enum ZeroRule
{
    /// <summary>Not always.</summary>
    None,

    /// <summary>Where all inputs are zero.</summary>
    All,

    /// <summary>Where any input is zero.</summary>
    Any,

    /// <summary>Where the first input is zero.</summary>
    First,
}

/// <summary>What is known of an operator, wherever it stands.</summary>
/// <param name="Operator">Its name, behind its domain where that is not the default.</param>
/// <param name="Effect">What it does to channels.</param>
/// <param name="Zero">When it makes zero of zero.</param>
/// <param name="Homogeneous">Whether f(s·x) = s·f(x) for every s &gt; 0, of the first input.</param>
/// <param name="Data">How many inputs, from the first, hold data; the others are settings.</param>
public sealed record OperatorFact(string Operator, ChannelEffect Effect, ZeroRule Zero, bool Homogeneous, int Data)
{
    /// <summary>Whether a channel of the output is a function of that channel of its one input of data.</summary>
    public bool IsChannelwise => Data == 1 && Effect is ChannelEffect.Elementwise or ChannelEffect.Pooling;
}
