using System.Text.RegularExpressions;

namespace Serverless.Core.Execution;

/// <summary>What ONNX Runtime says of a model, fit for a sentence.</summary>
internal static partial class RuntimeMessage
{
    private const int Longest = 300;

    /// <summary>One line of at most 300 characters, without paths of this machine or of the one that ONNX Runtime was built on.</summary>
    public static string Of(Exception e)
    {
        var text = Loading().Replace(e.Message.ReplaceLineEndings(" "), "");
        // Names of nodes look like paths; only folders that are there are paths.
        text = SourcePlace().Replace(text, "");
        text = AbsolutePath()
            .Replace(
                text,
                m =>
                    Path.GetDirectoryName(m.Value) is { Length: > 1 } folder && Directory.Exists(folder)
                        ? Path.GetFileName(m.Value)
                        : m.Value
            )
            .TrimEnd('.', ' ');
        return text.Length > Longest ? text[..Longest] + "…" : text;
    }

    [GeneratedRegex("Load model from .*? failed: ?")]
    private static partial Regex Loading();

    // "/onnxruntime_src/onnxruntime/core/graph/graph.cc:1591 ".
    [GeneratedRegex(@"/\S*onnxruntime/\S+:\d+ ")]
    private static partial Regex SourcePlace();

    [GeneratedRegex("/[^\\s'\"<>|:;,()]+")]
    private static partial Regex AbsolutePath();
}
