namespace Serverless.Core.Forms;

/// <summary>The weight of one of the operators that together stand for one whose weight is their product.</summary>
/// <param name="Dims">Its dimensions as the operator takes it.</param>
/// <param name="Axes">Axes of a convolution's kernel, from 0, whose stride, dilation and padding the operator has.</param>
public sealed record ProductFactor(IReadOnlyList<long> Dims, IReadOnlyList<int> Axes)
{
    /// <summary>Groups of channels that a convolution with it has.</summary>
    public long Groups { get; init; } = 1;

    /// <summary>Its weights.</summary>
    public long Elements => Dims.Aggregate(1L, (a, b) => checked(a * b));
}
