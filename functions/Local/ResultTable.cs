using Serverless.Core;
using Serverless.Core.Reports;
using Serverless.Core.Storage;
using Spectre.Console;

namespace Serverless.Local;

/// <summary>The end of a run on standard output: figures, warnings, and where the result is.</summary>
internal static class ResultTable
{
    /// <summary>Prints the result of <c>compress</c>; plain lines that nothing wraps where standard output is no terminal.</summary>
    public static void Print(Drop drop, LocalResult result)
    {
        var figures = Figure.Of(result.Report, Data(drop));
        Console.WriteLine(
            $"{Printable.Line(drop.Name)}: done in {ReportText.Took(result.Report)} "
                + $"with {ByteCount.Text(result.Report.PeakMemoryBytes)} of memory"
        );
        if (Console.IsOutputRedirected)
            foreach (var line in Lines(figures))
                Console.WriteLine(line);
        else
            AnsiConsole.Write(Drawn(figures));
        foreach (var remark in Remarks(result.Report))
            Console.WriteLine(remark);
        Console.WriteLine(result.Page);
    }

    /// <summary>Prints the result of one of many drops: a line of figures, and one for each warning, which begin with its name.</summary>
    public static void PrintShort(Drop drop, LocalResult result)
    {
        var name = Printable.Line(drop.Name);
        Console.WriteLine($"{name}: {Summary(result.Report, Data(drop))}; {result.Page}");
        foreach (var remark in Remarks(result.Report))
            Console.WriteLine($"{name}: {remark}");
    }

    /// <summary>The figures in columns, one a line.</summary>
    public static IEnumerable<string> Lines(IReadOnlyList<Figure> figures)
    {
        var (name, value) = (figures.Max(f => f.Name.Length), figures.Max(f => f.Remark.Length > 0 ? f.Value.Length : 0));
        return figures.Select(f => Printable.Line($"{f.Name.PadRight(name)}  {f.Value.PadRight(value)}  {f.Remark}".TrimEnd()));
    }

    /// <summary>Warnings, and that the result is over its budget, a line each.</summary>
    public static IEnumerable<string> Remarks(Report report)
    {
        foreach (var warning in report.Warnings)
            yield return Printable.Line($"Warning: {warning}");
        if (ReportText.OverBudget(report) is { } over)
            yield return Printable.Line(over);
    }

    /// <summary>The figures that matter most, in one line.</summary>
    public static string Summary(Report report, string data)
    {
        var fidelity = report.Fidelity;
        var near = fidelity.Cosine is { } cosine ? $"cosine {ReportText.Cosine(cosine)} " : "";
        return Printable.Line(
            $"{ByteCount.Change(report.Size.Before, report.Size.After)} ({ReportText.Percent(report.Size.Ratio)}), "
                + $"{near}{ReportText.Compared(fidelity, data)}{(report.Latency is { } l ? $", latency {ReportText.Spread(l)}" : "")}"
        );
    }

    private static string Data(Drop drop) => drop.Data is { } path ? StorePath.Name(path) : "its data";

    private static Table Drawn(IReadOnlyList<Figure> figures)
    {
        var table = new Table().Border(TableBorder.Rounded).HideHeaders().AddColumns("", "", "");
        table.Columns[0].NoWrap();
        table.Columns[1].NoWrap();
        foreach (var f in figures)
            table.AddRow(new[] { f.Name, f.Value, f.Remark }.Select(t => Markup.Escape(Printable.Line(t))).ToArray());
        return table;
    }
}
