using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Model.Schema;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Local;
using Serverless.TestSupport;

namespace Serverless.Pipeline.Tests;

/// <summary>Runs a drop through the local host inside the test's process.</summary>
internal sealed record Compressed(RunResult Result, Report Report, string File)
{
    public static async Task<Compressed> RunAsync(Folder folder, ModelProto model, string recipe, string? data = null)
    {
        folder.Write("model/m.onnx", model);
        return await RunAsync(folder, Path.Combine(folder.Path, "model", "m.onnx"), recipe, data);
    }

    public static async Task<Compressed> RunAsync(
        Folder folder,
        string model,
        string recipe,
        string? data = null,
        string? work = null,
        List<RunStatus>? statuses = null
    )
    {
        var file = folder.Write("recipe/recipe.yaml", System.Text.Encoding.UTF8.GetBytes(recipe));
        var output = Path.Combine(folder.Path, "out-" + Guid.NewGuid().ToString("N")[..8]);
        var options = new LocalOptions(output, folder.Path, work, 1L << 30, Isolated: false);
        var result = await RunDrop.RunAsync(
            Drop.Of(model, file, data),
            options,
            s =>
            {
                lock (options)
                    statuses?.Add(s);
            },
            _ => { },
            CancellationToken.None
        );
        var report = JsonSerializer.Deserialize<Report>(
            await System.IO.File.ReadAllBytesAsync(Path.Combine(output, "report.json")),
            Json.Options
        )!;
        return new Compressed(result.Run, report, Path.Combine(output, "model.onnx"));
    }
}
