using System.Text.RegularExpressions;
using Serverless.Core.Reports;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>The end of a run on standard output: one figure a row, in one unit.</summary>
public partial class ResultTableTests
{
    private static readonly Report Plain = new(
        "succeeded",
        "r",
        "m.onnx",
        new ReportSize(4_981_300, 9_440, 0.0019),
        new ReportParameters(4, 4, 4),
        new ReportFidelity("synthetic", 8, 0.9876543, 0.0512345, null),
        null,
        null,
        null,
        [],
        1,
        0,
        0
    );

    [Fact]
    public async Task Redirected_it_is_plain_columns_that_end_with_the_page_of_the_result()
    {
        using var folder = new Folder();
        var done = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "out");
        Assert.True(done.ExitCode == 0, done.Error);
        var lines = done.Output.TrimEnd().Split('\n');
        Assert.Matches(@"^digits: done in [0-9.]+ s \(evaluating [0-9.]+ s\) with [0-9.]+ MB of memory$", lines[0]);
        Assert.Equal(
            ["Size", "Cosine", "Relative error", "Top-1 agreement", "Accuracy", "Latency"],
            lines[1..7].Select(l => Gap().Split(l)[0])
        );
        Assert.Matches(@"^Size +941\.1 kB → [0-9.]+ kB  [0-9.]+ %$", lines[1]);
        Assert.Matches(@"^Cosine +0\.[0-9]{6} +on 400 samples of data\.npz$", lines[2]);
        Assert.Matches(@"^Accuracy +[0-9.]+ % → [0-9.]+ % +of 400 labels$", lines[5]);
        Assert.Matches(@"^Latency +[0-9.]+ ms → [0-9.]+ ms  ×[0-9.]+ \([0-9.]+ to [0-9.]+\)(, no difference beyond the noise)?$", lines[6]);
        Assert.All(lines[7..^1], l => Assert.StartsWith("Warning: ", l, StringComparison.Ordinal));
        Assert.Equal(Path.Combine(folder.Path, "out", "report.html"), lines[^1]);
        Assert.DoesNotContain('\u001B', done.Output + done.Error);
    }

    [Fact]
    public async Task Layers_are_lines_with_verbose_only()
    {
        using var folder = new Folder();
        var quiet = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "quiet");
        Assert.Equal(["Inspect", "Plan", "Compress", "Reassemble", "Evaluate", "Publish"], quiet.Error.Trim().Split('\n'));
        var verbose = await CommandLine.RunAsync(folder.Path, "compress", RealModels.Digits, "--out", "verbose", "--verbose");
        Assert.Matches(@"\[1/3\] fc[1-3]\.weight: .* → .*, (8|16) bits, error [0-9.]+; saved ", verbose.Error);
        Assert.Equal(3, verbose.Error.Split("/3] fc").Length - 1);
    }

    [Fact]
    public async Task A_watch_prints_a_line_a_drop()
    {
        using var folder = new Folder();
        folder.Write("drop/m.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        var done = await CommandLine.RunAsync(folder.Path, "watch", ".", "--once");
        Assert.True(done.ExitCode == 0, done.Error);
        var page = Assert.Single(Directory.GetFiles(folder.Path, "report.html", SearchOption.AllDirectories));
        var line = done.Output.TrimEnd().Split('\n')[0];
        Assert.Matches(@"^m: 941\.1 kB → [0-9.]+ kB \([0-9.]+ %\), cosine [0-9.]+ on 8 synthetic inputs, latency ×", line);
        Assert.EndsWith($"; {page}", line, StringComparison.Ordinal);
        Assert.DoesNotContain("/3]", done.Error);
    }

    [Fact]
    public void Both_sides_of_an_arrow_have_one_unit()
    {
        Assert.Equal("4981.3 kB → 1721.4 kB", ByteCount.Change(4_981_300, 1_721_400));
        Assert.Equal("30.2 kB → 9.4 kB", ByteCount.Change(30_200, 9_440));
        Assert.Equal("9999 B → 12 B", ByteCount.Change(9_999, 12));
        Assert.Equal("12000000 B → 12 B", ByteCount.Change(12_000_000, 12));
        Assert.Equal("0 B → 0 B", ByteCount.Change(0, 0));
        Assert.Equal("20.0 GB → 5.0 GB", ByteCount.Change(20_000_000_000, 5_000_000_000));
        var slow = new ReportLatency(0.9, 1234.6, 1371, 1)
        {
            RatioLow = 1300,
            RatioHigh = 1400,
            Conclusive = true,
        };
        Assert.Equal("1 ms → 1235 ms", ReportText.Change(slow));
        Assert.Equal("×1371.00 (1300.00 to 1400.00)", ReportText.Spread(slow));
    }

    [Fact]
    public void What_was_not_compared_has_no_figures()
    {
        var report = Plain with { Fidelity = new ReportFidelity("none", 0, null, null, null) { NotCompared = "its \u001B[2Jinput" } };
        Assert.Equal(
            ["Size      4981.3 kB → 9.4 kB  0.2 %", "Fidelity  not compared: its \\u001B[2Jinput"],
            ResultTable.Lines(Figure.Of(report, "x"))
        );
        Assert.Contains("(0.2 %), not compared: its \\u001B[2Jinput", ResultTable.Summary(report, "x"));
    }

    [Fact]
    public void Warnings_and_a_missed_budget_follow_the_figures()
    {
        var budget = new ReportBudget(0.01, null, "accuracy", null, false);
        var report = Plain with { Warnings = ["An output 'a\u202Eb' is odd."], Budget = budget };
        Assert.Equal(
            ["Warning: An output 'a\\u202Eb' is odd.", "Over the recipe's budget (the loss could not be told): this is the best attempt."],
            ResultTable.Remarks(report)
        );
        Assert.Contains(
            "(loss 0.25, where 0.01 is allowed)",
            ResultTable.Remarks(report with { Budget = budget with { Loss = 0.25 } }).Last()
        );
        Assert.Empty(ResultTable.Remarks(Plain with { Budget = budget with { Met = true } }));
        var fast = Plain with
        {
            Budget = new ReportBudget(null, null, "accuracy", 0, false) { MaxLatencyRatio = 0.6 },
            Latency = null,
        };
        Assert.Contains("(the latency could not be told)", ResultTable.Remarks(fast).Last());
        fast = fast with { Latency = new ReportLatency(10, 7, 0.7, 1) };
        Assert.Contains("(ratio of latencies 0.7, where 0.6 is allowed)", ResultTable.Remarks(fast).Last());
    }

    [GeneratedRegex(" {2,}")]
    private static partial Regex Gap();
}
