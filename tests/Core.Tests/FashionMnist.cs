using System.IO.Compression;
using System.Runtime.InteropServices;

namespace Serverless.TestSupport;

/// <summary>
/// Fashion-MNIST (Xiao et al. 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms"), as the Debian
/// package <c>dataset-fashion-mnist</c> installs it: pictures of 28 × 28 in ten classes.
/// </summary>
/// <param name="Pixels">Pictures one behind another.</param>
/// <param name="Labels">A class each.</param>
internal sealed record FashionMnist(byte[] Pixels, byte[] Labels)
{
    /// <summary>Pixels of a picture.</summary>
    public const int Size = 28 * 28;

    /// <summary>What a pixel is multiplied by: the scale of Caffe's LeNet.</summary>
    public const float Scale = 1 / 256f;

    /// <summary>Pictures of <c>tests/models/lenet/data.npz</c>.</summary>
    public const int Kept = 400;

    private const string Folder = "/usr/share/datasets/fashion-mnist";

    /// <summary>Whether the package is installed.</summary>
    public static bool IsThere => Directory.Exists(Folder);

    /// <summary>The 60,000 pictures to train on.</summary>
    public static FashionMnist Train => Read("train");

    /// <summary>The 10,000 others.</summary>
    public static FashionMnist Test => Read("t10k");

    /// <summary>Writes the first pictures as the data of a drop: <c>image</c>, scaled, and <c>labels</c>.</summary>
    /// <param name="path">The <c>.npz</c>.</param>
    /// <param name="count">Pictures, the sample being the first axis.</param>
    public string WriteNpz(string path, int count)
    {
        var image = Array.ConvertAll(Pixels[..checked(count * Size)], p => p * Scale);
        Npz.Write(
            path,
            CompressionLevel.SmallestSize,
            ("image", "<f4", [count, 1, 28, 28], MemoryMarshal.AsBytes<float>(image).ToArray()),
            ("labels", "|u1", [count], Labels[..count])
        );
        return path;
    }

    private static FashionMnist Read(string part)
    {
        var pictures = IdxFile.Read(Path.Combine(Folder, $"{part}-images-idx3-ubyte.gz"));
        var labels = IdxFile.Read(Path.Combine(Folder, $"{part}-labels-idx1-ubyte.gz"));
        if (pictures.Shape is not [var count, 28, 28] || labels.Shape is not [var named] || named != count)
            throw new InvalidDataException($"{Folder} holds other than pictures of 28 × 28 with a label each.");
        return labels.Elements.All(l => l < 10)
            ? new FashionMnist(pictures.Elements, labels.Elements)
            : throw new InvalidDataException($"{Folder} has labels above 9.");
    }
}
