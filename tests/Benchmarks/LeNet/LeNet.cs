using System.Numerics.Tensors;

namespace Serverless.Benchmarks;

/// <summary>
/// LeNet-5 as Caffe has it and Han et al. 2015 ("Learning both Weights and Connections for Efficient Neural Networks", section 4.1) prune
/// it: convolutions 20@5×5 and 50@5×5, each behind it the largest of 2×2, a fully connected layer of 500 with ReLU, and one of 10; 430,500
/// weights. Values lie channels last.
/// </summary>
/// <param name="most">Pictures of a batch, at most.</param>
/// <param name="random">Draws the weights.</param>
internal sealed class LeNet(int most, Random random)
{
    private const int Side1 = 24,
        Pooled1 = Side1 / 2,
        Side2 = 8,
        Pooled2 = Side2 / 2;

    /// <summary>Channels and units that the layers make.</summary>
    public const int Maps1 = 20,
        Maps2 = 50,
        Units = 500,
        Classes = 10;

    private readonly double[] columns1 = new double[most * Side1 * Side1 * 25],
        conv1 = new double[most * Side1 * Side1 * Maps1],
        pool1 = new double[most * Pooled1 * Pooled1 * Maps1],
        columns2 = new double[most * Side2 * Side2 * 25 * Maps1],
        conv2 = new double[most * Side2 * Side2 * Maps2],
        pool2 = new double[most * Pooled2 * Pooled2 * Maps2],
        hidden = new double[most * Units],
        logits = new double[most * Classes];

    private readonly double[] columns2Gradient = new double[most * Side2 * Side2 * 25 * Maps1],
        pool1Gradient = new double[most * Pooled1 * Pooled1 * Maps1],
        pool2Gradient = new double[most * Pooled2 * Pooled2 * Maps2],
        hiddenGradient = new double[most * Units];

    private readonly int[] places1 = new int[most * Pooled1 * Pooled1 * Maps1],
        places2 = new int[most * Pooled2 * Pooled2 * Maps2];

    /// <summary>The four layers; weights of convolutions are outputs × (rows, columns, channels).</summary>
    public IReadOnlyList<TrainedLayer> Layers { get; } =
    [new(25, Maps1, random), new(25 * Maps1, Maps2, random), new(Pooled2 * Pooled2 * Maps2, Units, random), new(Units, Classes, random)];

    /// <summary>Scores of some pictures.</summary>
    /// <param name="pictures">batch × 28 × 28.</param>
    /// <param name="batch">Pictures.</param>
    /// <returns>batch × classes, valid until the next call.</returns>
    public ReadOnlyMemory<double> Forward(double[] pictures, int batch)
    {
        Windows.ToColumns(pictures, columns1, batch, 28, 1);
        Layers[0].Forward(columns1, conv1, batch * Side1 * Side1);
        Windows.Largest(conv1, pool1, places1, batch, Side1, Maps1);
        Windows.ToColumns(pool1, columns2, batch, Pooled1, Maps1);
        Layers[1].Forward(columns2, conv2, batch * Side2 * Side2);
        Windows.Largest(conv2, pool2, places2, batch, Side2, Maps2);
        Layers[2].Forward(pool2, hidden, batch);
        TensorPrimitives.Max(hidden.AsSpan(0, batch * Units), 0, hidden);
        Layers[3].Forward(hidden, logits, batch);
        return logits.AsMemory(0, batch * Classes);
    }

    /// <summary>A step of gradient descent on a batch: cross-entropy behind softmax.</summary>
    /// <param name="pictures">batch × 28 × 28.</param>
    /// <param name="labels">A class each.</param>
    /// <param name="rate">Learning rate.</param>
    /// <param name="decay">Weight decay.</param>
    /// <returns>The mean loss of the batch.</returns>
    public double Train(double[] pictures, ReadOnlySpan<byte> labels, double rate, double decay)
    {
        Forward(pictures, labels.Length);
        var loss = 0.0;
        for (var i = 0; i < labels.Length; i++)
        {
            var scores = logits.AsSpan(i * Classes, Classes);
            TensorPrimitives.SoftMax<double>(scores, scores);
            loss -= Math.Log(Math.Max(scores[labels[i]], double.Epsilon)) / labels.Length;
            scores[labels[i]] -= 1;
            TensorPrimitives.Divide(scores, labels.Length, scores);
        }
        Backward(labels.Length);
        foreach (var layer in Layers)
            layer.Step(rate, decay);
        return loss;
    }

    // Values make room for their gradients where they are not taken any more.
    private void Backward(int batch)
    {
        Layers[3].Backward(hidden, logits, hiddenGradient, batch);
        for (var i = 0; i < batch * Units; i++)
            if (hidden[i] <= 0)
                hiddenGradient[i] = 0;
        Layers[2].Backward(pool2, hiddenGradient, pool2Gradient, batch);
        Spread(pool2Gradient, places2, conv2, batch * Pooled2 * Pooled2 * Maps2);
        Layers[1].Backward(columns2, conv2, columns2Gradient, batch * Side2 * Side2);
        Windows.FromColumns(columns2Gradient, pool1Gradient, batch, Pooled1, Maps1);
        Spread(pool1Gradient, places1, conv1, batch * Pooled1 * Pooled1 * Maps1);
        Layers[0].Backward(columns1, conv1, null, batch * Side1 * Side1);
    }

    private static void Spread(double[] gradient, int[] places, double[] of, int count)
    {
        Array.Clear(of);
        for (var i = 0; i < count; i++)
            of[places[i]] = gradient[i];
    }
}
