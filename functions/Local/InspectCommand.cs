using System.CommandLine;
using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Model;
using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Spectre.Console;

namespace Serverless.Local;

/// <summary><c>inspect MODEL|FOLDER</c>: what is in a model and what would be done with it.</summary>
internal static class InspectCommand
{
    private sealed record Layer(
        string Name,
        string? Node,
        string Op,
        long[]? Shape,
        string Type,
        long Bytes,
        bool Compressed,
        IReadOnlyList<string> Steps,
        int? Bits,
        int? Group,
        int? Rank,
        string? Form,
        long BytesBefore,
        long? BytesAfter,
        long? MultiplyAccumulates,
        bool ChosenByRun,
        string? Reason,
        IReadOnlyList<NotAppliedStep> NotApplied
    );

    private const string Chosen = "open";

    private sealed record Amount(string Type, string Place, int Tensors, long Bytes);

    private sealed record Cost(long Before, long? After);

    private sealed record Inspection(
        string Model,
        long Bytes,
        long IrVersion,
        IReadOnlyDictionary<string, long> Opsets,
        string Producer,
        int Functions,
        IReadOnlyDictionary<string, int> Ops,
        IReadOnlyList<Amount> Weights,
        IReadOnlyList<Layer> Layers,
        Cost MultiplyAccumulates,
        IReadOnlyList<string> Unmatched,
        IReadOnlyList<string> NotApplied
    );

    public static Command Build()
    {
        var model = new Argument<string>("model") { Description = "An .onnx file, or a folder that holds one." };
        var recipe = new Option<string?>("--recipe")
        {
            Description = "The recipe to plan by (default: recipe.yaml of the folder, else the preset int8).",
        };
        var json = new Option<bool>("--json") { Description = "Print JSON." };
        var command = new Command("inspect", "Show what is in a model, the layers that would be compressed, and why others would not.")
        {
            model,
            recipe,
            json,
        };
        command.SetAction(
            (parsed, cancellation) =>
                Outcome.OfAsync(async () =>
                {
                    var drop = Drop.Of(parsed.GetValue(model)!, parsed.GetValue(recipe), null);
                    return await drop.RunAsync(async () =>
                    {
                        var inspection = await InspectAsync(drop, cancellation);
                        if (parsed.GetValue(json))
                            Console.WriteLine(JsonSerializer.Serialize(inspection, Json.Indented));
                        else
                            Print(inspection);
                        return ExitCode.Done;
                    });
                })
        );
        return command;
    }

    private static async Task<Inspection> InspectAsync(Drop drop, CancellationToken cancellation)
    {
        var store = drop.Source.Open();
        var index = await ModelIndexer.IndexAsync(store, drop.Model, cancellation);
        var forecast = await ForecastAsync(drop, cancellation);
        var layers = forecast
            .Layers.Select(f => new Layer(
                f.Task.Name,
                f.Task.Node,
                f.Task.Op,
                f.OfOpenRank ? null : f.Task.Dims,
                DataTypes.Name(f.Task.Data.DataType),
                f.Task.Data.Length,
                f.Steps.Count > 0,
                f.Steps,
                f is { Task.Plan: null, OfOpenRank: false } && f.Steps.Count > 0
                    ? DataTypes.Bits(f.Task.Data.DataType)
                    : (int?)f.Settled(p => p.Bits),
                (int?)f.Settled(p => p.Block),
                f.Rank,
                f.Form,
                f.BytesBefore,
                f.BytesAfter,
                f.MultiplyAccumulates,
                f.ChosenByRun,
                f.Steps.Count > 0 ? null : f.Reason,
                f.NotApplied
            ))
            .ToList();
        var ops = GraphScope
            .Of(index.Model)
            .SelectMany(s => s.All())
            .SelectMany(s => s.Nodes)
            .GroupBy(n => n.Domain is "" or "ai.onnx" ? n.OpType : $"{n.Domain}.{n.OpType}")
            .OrderByDescending(g => g.Count())
            .ThenBy(g => g.Key, StringComparer.Ordinal)
            .ToDictionary(g => g.Key, g => g.Count());
        var amounts = Weight
            .Of(index.Model)
            .GroupBy(w => (Type: DataTypes.Name(w.Reference.DataType), Place: Place(w, index)))
            .OrderByDescending(g => g.Sum(w => w.Reference.Length))
            .Select(g => new Amount(g.Key.Type, g.Key.Place, g.Count(), g.Sum(w => w.Reference.Length)))
            .ToList();
        var opsets = index
            .Model.OpsetImport.GroupBy(o => o.Domain.Length == 0 ? "ai.onnx" : o.Domain)
            .ToDictionary(g => g.Key, g => g.First().Version);
        return new Inspection(
            StorePath.Name(drop.Model),
            index.Bytes,
            index.Model.IrVersion,
            opsets,
            index.Model.ProducerName,
            index.Model.Functions.Count,
            ops,
            amounts,
            layers,
            new Cost(
                forecast.MultiplyAccumulates,
                layers.Any(l => l.MultiplyAccumulates is null)
                    ? null
                    : Core.Model.MultiplyAccumulates.Total(layers.Select(l => l.MultiplyAccumulates!.Value).Append(forecast.OfComputed))
            ),
            forecast.Unmatched,
            forecast.NotApplied
        );
    }

    // In a folder that goes afterwards; what runs parts of the model runs in a process of its own.
    private static async Task<Forecast> ForecastAsync(Drop drop, CancellationToken cancellation)
    {
        var folder = Directory.CreateTempSubdirectory("serverless-inspect-").FullName;
        try
        {
            var spec = drop.Source.With(("work", Path.Combine(folder, "work")));
            var (store, room) = (spec.Open(), MemorySize.Room(null));
            using var journal = new Journal(Path.Combine(folder, WorkFolder.Journal));
            using var process = new ModelProcess(spec, room);
            using var host = new LocalOrchestration(
                "inspect",
                new ActivityContext(store, room),
                journal,
                new LocalDisplay(_ => { }, _ => { }),
                process,
                Environment.ProcessorCount,
                cancellation
            );
            var request = new RunRequest(drop.Name, drop.Model, drop.Recipe, drop.Data, "work/inspect", "work/inspect/layers", "work/none");
            return await Forecast.OfAsync(host, store, request, cancellation);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Place(Weight weight, ModelIndex index) =>
        weight.Reference.File is { } file && file != StorePath.Name(index.Path) ? $"{weight.Place}, external" : weight.Place;

    private static string Shown(string name) => Markup.Escape(Printable.Line(name));

    private static void Print(Inspection i)
    {
        var console = AnsiConsole.Console;
        if (Console.IsOutputRedirected)
            console.Profile.Width = 200;
        var (opset, nodes) = (i.Opsets.GetValueOrDefault("ai.onnx"), i.Ops.Values.Sum());
        var producer = i.Producer.Length > 0 ? Printable.Line(i.Producer) : "an unnamed exporter";
        console.MarkupInterpolated($"[bold]{Printable.Line(i.Model)}[/]: {ByteCount.Text(i.Bytes)}, IR {i.IrVersion}, opset {opset}, ");
        console.MarkupLineInterpolated($"{nodes} nodes, {i.Functions} functions, from {producer}");
        console.MarkupLineInterpolated($"Operators: {string.Join(", ", i.Ops.Select(o => $"{Printable.Line(o.Key)} {o.Value}"))}");
        var macs = i.MultiplyAccumulates.After is { } after ? $"{after:N0} after" : "fewer after; the run chooses how many";
        console.MarkupLineInterpolated(
            $"Multiply-accumulates with weights, of a run of one sample: {i.MultiplyAccumulates.Before:N0}, {macs}"
        );
        var amounts = new Table().AddColumns("Weights", "Where", "Tensors", "Bytes");
        foreach (var a in i.Weights)
            amounts.AddRow(Shown(a.Type), Shown(a.Place), a.Tensors.ToString(), ByteCount.Text(a.Bytes));
        console.Write(amounts);
        var layers = new Table().AddColumns("Would be compressed", "Used by", "Shape", "Steps", "Bits", "Group", "Form", "Before", "After");
        foreach (var l in i.Layers.Where(l => l.Compressed))
            layers.AddRow(
                Shown(l.Name),
                Shown(l.Op),
                l.Shape is null ? Chosen : string.Join('×', l.Shape),
                Shown(string.Join(", ", l.Steps)),
                l.Bits?.ToString() ?? Chosen,
                l.Group?.ToString() ?? (l.ChosenByRun ? Chosen : ""),
                l.Form ?? (l.ChosenByRun ? Chosen : "Dense"),
                ByteCount.Text(l.BytesBefore),
                l.BytesAfter is { } bytes ? ByteCount.Text(bytes) : Chosen
            );
        console.Write(layers);
        if (i.Layers.Any(l => l.ChosenByRun))
            console.WriteLine($"{Chosen}: the run chooses, by its samples and the budget, or finds in the weights.");
        var rest = new Table().AddColumns("Left alone", "Tensors", "Bytes");
        foreach (
            var g in i.Layers.Where(l => !l.Compressed).GroupBy(l => l.Reason!.Split(':')[0]).OrderByDescending(g => g.Sum(l => l.Bytes))
        )
            rest.AddRow(Shown(g.Key), g.Count().ToString(), ByteCount.Text(g.Sum(l => l.Bytes)));
        console.Write(rest);
        foreach (var l in i.Layers.Where(l => l.Compressed && l.NotApplied.Count > 0))
            console.MarkupLineInterpolated(
                $"Not for {Printable.Line(l.Name)}: {Printable.Line(string.Join("; ", l.NotApplied.Select(n => $"{n.Step}: {n.Reason}")))}."
            );
        if (i.NotApplied.Count > 0)
            console.MarkupLineInterpolated(
                $"Not applied here, as they observe the model or read factors: {string.Join(", ", i.NotApplied)}."
            );
        foreach (var match in i.Unmatched)
            console.MarkupLineInterpolated($"Warning: no layer matches '{Printable.Line(match)}' under 'layers' in the recipe.");
    }
}
