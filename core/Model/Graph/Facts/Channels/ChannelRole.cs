namespace Serverless.Core.Model;

/// <summary>What a constant's channels are to a group.</summary>
public enum ChannelRole
{
    /// <summary>A factor or a parameter of each channel, such as the scale of a normalization or the slope of a PRelu.</summary>
    Parameter,

    /// <summary>What is added to each channel.</summary>
    Bias,

    /// <summary>Makes the channels: rows of a weight.</summary>
    Producer,

    /// <summary>Takes the channels: columns of a weight.</summary>
    Consumer,
}
