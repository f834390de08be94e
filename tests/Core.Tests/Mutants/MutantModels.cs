using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.TestSupport;

/// <summary>The models that mutants are made of.</summary>
internal static class MutantModels
{
    private const string LastOfFirstLayer = "encoder.layer.0.output.LayerNorm.bias";
    private const int Vocabulary = 1000;

    /// <summary>Name and file of each; those whose packages are not to be had are left out.</summary>
    /// <param name="large">With the recogniser and the detector of text and the transformer, whose runs take seconds.</param>
    public static IReadOnlyList<(string Name, byte[] Bytes)> All(bool large)
    {
        var repository = ModelPackages.Repository;
        var models = new List<(string, byte[])>
        {
            ("digits", File.ReadAllBytes(Path.Combine(repository, "tests", "models", "digits", "digits.onnx"))),
        };
        var names = new List<string> { "ch_ppocr_mobile_v2.0_cls_infer", "silero_vad_v5", "silero_vad_v6" };
        if (large)
            names.AddRange(["ch_PP-OCRv4_rec_infer", "ch_PP-OCRv4_det_infer"]);
        foreach (var name in names)
            if (ModelPackages.Find(name) is { } file)
                models.Add((name, File.ReadAllBytes(file)));
        if (large && MiniLm.Fetch(repository) is { } folder)
            models.Add(("minilm-first-layer", FirstLayer(File.ReadAllBytes(Path.Combine(folder, "model.onnx")))));
        return models;
    }

    // The embeddings of a thousand tokens and the first layer of the encoder: 9 MB of 90.
    private static byte[] FirstLayer(byte[] whole)
    {
        var model = ModelProto.Parser.ParseFrom(whole);
        var graph = model.Graph;
        var last = graph.Node.First(n => n.Input.Contains(LastOfFirstLayer)).Output[0];
        graph.Output.Clear();
        graph.Output.Add(
            new ValueInfoProto
            {
                Name = last,
                Type = new TypeProto { TensorType = new() { ElemType = (int)TensorProto.Types.DataType.Float } },
            }
        );
        graph.ValueInfo.Clear();
        var words = graph.Initializer.First(t => t.Dims.Count == 2 && t.Dims[0] > 30_000);
        words.RawData = ByteString.CopyFrom(words.RawData.Span[..(int)(Vocabulary * words.Dims[1] * sizeof(float))]);
        words.Dims[0] = Vocabulary;
        new ModelEdit(model).DropDead(CancellationToken.None);
        return model.ToByteArray();
    }
}
