using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Reports;
using Serverless.Local;

namespace Serverless.Benchmarks;

/// <summary>A run behind a row of a table.</summary>
/// <param name="Report">Its report.</param>
/// <param name="File">The compressed model.</param>
internal sealed record TableRow(Report Report, string File)
{
    /// <summary>Compresses a model in this process.</summary>
    /// <param name="folder">A folder for what is made.</param>
    /// <param name="model">The <c>.onnx</c>.</param>
    /// <param name="recipe">The recipe, without its version.</param>
    /// <param name="data">The <c>.npz</c>, or null for synthetic inputs.</param>
    /// <param name="evaluates">Whether the run compares its result.</param>
    public static async Task<TableRow> MakeAsync(string folder, string model, string recipe, string? data, bool evaluates = true)
    {
        var (file, output) = (Path.Combine(folder, "recipe.yaml"), Path.Combine(folder, Guid.NewGuid().ToString("N")));
        await System.IO.File.WriteAllTextAsync(file, $"version: 1\n{recipe}\n");
        await RunDrop.RunAsync(
            Drop.Of(model, file, data),
            new LocalOptions(output, folder, null, 4L << 30, Isolated: false) { Evaluates = evaluates },
            _ => { },
            _ => { },
            CancellationToken.None
        );
        return new TableRow(
            JsonSerializer.Deserialize<Report>(await System.IO.File.ReadAllBytesAsync(Path.Combine(output, "report.json")), Json.Options)!,
            Path.Combine(output, "model.onnx")
        );
    }
}
