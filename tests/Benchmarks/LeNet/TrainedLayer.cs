using System.Numerics.Tensors;
using Serverless.Core.Numerics;

namespace Serverless.Benchmarks;

/// <summary>
/// y = x·Wᵀ + b with its gradients, trained by stochastic gradient descent with momentum. Weights begin uniform within ±√(3 / inputs), as
/// Caffe's "xavier" filler has them (Glorot and Bengio 2010).
/// </summary>
/// <param name="inputs">Inputs of a row.</param>
/// <param name="outputs">Outputs of a row.</param>
/// <param name="random">Draws the weights.</param>
internal sealed class TrainedLayer(int inputs, int outputs, Random random)
{
    private const double Momentum = 0.9;
    private readonly double[] gradient = new double[outputs * inputs],
        biasGradient = new double[outputs],
        velocity = new double[outputs * inputs],
        biasVelocity = new double[outputs];

    /// <summary>W: outputs × inputs.</summary>
    public double[] Weights { get; } =
    [.. Enumerable.Range(0, outputs * inputs).Select(_ => (2 * random.NextDouble() - 1) * Math.Sqrt(3.0 / inputs))];

    /// <summary>b: outputs.</summary>
    public double[] Bias { get; } = new double[outputs];

    /// <summary>Computes y of some rows.</summary>
    /// <param name="x">rows × inputs.</param>
    /// <param name="y">Receives rows × outputs.</param>
    /// <param name="rows">Rows.</param>
    public void Forward(double[] x, double[] y, int rows)
    {
        MatrixProduct.Multiply(1, x, false, Weights, true, null, y, rows, inputs, outputs);
        for (var r = 0; r < rows; r++)
        {
            var row = y.AsSpan(r * outputs, outputs);
            TensorPrimitives.Add<double>(row, Bias, row);
        }
    }

    /// <summary>Computes the gradients of W and b, and of x where asked for.</summary>
    /// <param name="x">What Forward took.</param>
    /// <param name="dy">Gradient of y.</param>
    /// <param name="dx">Receives the gradient of x, or null.</param>
    /// <param name="rows">Rows.</param>
    public void Backward(double[] x, double[] dy, double[]? dx, int rows)
    {
        MatrixProduct.Multiply(1, dy, true, x, false, null, gradient, outputs, rows, inputs);
        Array.Clear(biasGradient);
        for (var r = 0; r < rows; r++)
            TensorPrimitives.Add(biasGradient, dy.AsSpan(r * outputs, outputs), biasGradient);
        if (dx is not null)
            MatrixProduct.Multiply(1, dy, false, Weights, false, null, dx, rows, outputs, inputs);
    }

    /// <summary>Moves W and b against their gradients.</summary>
    /// <param name="rate">Learning rate.</param>
    /// <param name="decay">Weight decay, of W alone.</param>
    public void Step(double rate, double decay)
    {
        TensorPrimitives.MultiplyAdd(Weights, decay, gradient, gradient);
        Move(Weights, gradient, velocity);
        Move(Bias, biasGradient, biasVelocity);

        void Move(double[] values, double[] gradients, double[] velocities)
        {
            TensorPrimitives.Multiply(velocities, Momentum, velocities);
            TensorPrimitives.MultiplyAdd(gradients, -rate, velocities, velocities);
            TensorPrimitives.Add(values, velocities, values);
        }
    }
}
