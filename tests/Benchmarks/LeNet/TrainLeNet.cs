using System.Globalization;
using System.Numerics.Tensors;
using Google.Protobuf;
using Serverless.TestSupport;

namespace Serverless.Benchmarks;

/// <summary>
/// Makes the sample model in tests/models/lenet: <see cref="LeNet"/> trained on Fashion-MNIST, and a data.npz of test pictures.
/// <c>train-lenet OUTPUT [EPOCHS] [PICTURES]</c>. The same seed gives the same model on the same kind of processor.
/// </summary>
internal static class TrainLeNet
{
    private const int Batch = 64;
    private const double Rate = 0.02,
        Decay = 5e-4;

    /// <summary>Trains and writes.</summary>
    /// <param name="output">Folder that receives <c>lenet.onnx</c> and <c>data.npz</c>.</param>
    /// <param name="epochs">Passes over the 60,000 pictures.</param>
    /// <param name="pictures">Test pictures of <c>data.npz</c>, 1 to 10,000.</param>
    public static int Run(string output, int epochs, int pictures)
    {
        if (!FashionMnist.IsThere)
        {
            Console.Error.WriteLine("Fashion-MNIST is missing: apt-get install dataset-fashion-mnist");
            return 1;
        }
        ArgumentOutOfRangeException.ThrowIfLessThan(epochs, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(pictures, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(pictures, 10_000);
        var (train, test) = (FashionMnist.Train, FashionMnist.Test);
        var random = new Random(1);
        var net = new LeNet(Batch, random);
        var order = Enumerable.Range(0, train.Labels.Length).ToArray();
        var (batch, labels) = (new double[Batch * FashionMnist.Size], new byte[Batch]);
        var (steps, step) = (epochs * (order.Length / Batch), 0);
        for (var epoch = 0; epoch < epochs; epoch++)
        {
            random.Shuffle(order);
            var loss = 0.0;
            for (var at = 0; at + Batch <= order.Length; at += Batch)
            {
                for (var i = 0; i < Batch; i++)
                {
                    Copy(train, order[at + i], batch.AsSpan(i * FashionMnist.Size, FashionMnist.Size), random.Next(2) == 1);
                    labels[i] = train.Labels[order[at + i]];
                }
                // Half a cosine down to nothing (Loshchilov and Hutter 2017, eq. 5, without restarts).
                loss += net.Train(batch, labels, Rate * 0.5 * (1 + Math.Cos(Math.PI * step++ / steps)), Decay);
            }
            var accuracy = Accuracy(net, test, test.Labels.Length);
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"epoch {epoch + 1}: loss {loss * Batch / order.Length:0.000}, accuracy {accuracy:0.0000}"
                )
            );
        }
        Directory.CreateDirectory(output);
        File.WriteAllBytes(Path.Combine(output, "lenet.onnx"), LeNetModel.Of(net).ToByteArray());
        test.WriteNpz(Path.Combine(output, "data.npz"), pictures);
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"accuracy on the {pictures} pictures of data.npz: {Accuracy(net, test, pictures):0.0000}"
            )
        );
        return 0;
    }

    private static double Accuracy(LeNet net, FashionMnist test, int count)
    {
        var (batch, right) = (new double[Batch * FashionMnist.Size], 0);
        for (var at = 0; at < count; at += Batch)
        {
            var size = Math.Min(Batch, count - at);
            for (var i = 0; i < size; i++)
                Copy(test, at + i, batch.AsSpan(i * FashionMnist.Size, FashionMnist.Size), flipped: false);
            var scores = net.Forward(batch, size).Span;
            for (var i = 0; i < size; i++)
                if (TensorPrimitives.IndexOfMax(scores.Slice(i * LeNet.Classes, LeNet.Classes)) == test.Labels[at + i])
                    right++;
        }
        return (double)right / count;
    }

    private static void Copy(FashionMnist from, int picture, Span<double> to, bool flipped)
    {
        for (var i = 0; i < to.Length; i++)
            to[i] = from.Pixels[picture * FashionMnist.Size + i] * FashionMnist.Scale;
        if (flipped)
            for (var row = 0; row < 28; row++)
                to.Slice(28 * row, 28).Reverse();
    }
}
