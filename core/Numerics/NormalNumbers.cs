namespace Serverless.Core.Numerics;

/// <summary>Numbers of the standard normal distribution (Box and Muller 1958).</summary>
public static class NormalNumbers
{
    /// <summary>The next one.</summary>
    public static double Next(Random random) =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
