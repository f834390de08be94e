using Serverless.Core.Reports;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>What others named reaches people as text, and what leaves the machine names none of its folders.</summary>
public class PrintableTests
{
    [Theory]
    [InlineData("plain, Ünïcödé, 模型, 😀", "plain, Ünïcödé, 模型, 😀")]
    [InlineData("\u001B[31mred\u0007\r\n\t\0\u007F", "\\u001B[31mred\\u0007\\u000D\\u000A\\u0009\\u0000\\u007F")]
    [InlineData("\u009B31m\u0085", "\\u009B31m\\u0085")]
    [InlineData("\u202Eevil\u2066\u2069\u200E\u200F\u061C", "\\u202Eevil\\u2066\\u2069\\u200E\\u200F\\u061C")]
    [InlineData("a\u200Bb\u200Dc\uFEFFd\u00ADe\u2060f\u3164", "a\\u200Bb\\u200Dc\\uFEFFd\\u00ADe\\u2060f\\u3164")]
    [InlineData("\u2028\u2029", "\\u2028\\u2029")]
    [InlineData("\U000E0041", "\\U000E0041")]
    public void A_name_drives_no_terminal_and_hides_nothing(string name, string shown)
    {
        Assert.Equal(shown, Printable.Line(name));
        Assert.Equal(shown, new BadInputException(name).Message);
    }

    [Fact]
    public void Half_a_surrogate_pair_is_shown_as_what_it_is()
    {
        Assert.Equal("a\\uD83Db\\uDE00", Printable.Line("a" + (char)0xD83D + "b" + (char)0xDE00));
        var cut = new BadInputException(string.Concat(Enumerable.Repeat("😀", 400))).Message;
        Assert.DoesNotContain("\\u", Printable.Line(cut));
        Assert.True(cut.Length <= 561);
    }

    [Fact]
    public void What_could_drive_or_reorder_a_terminal_stays_out_of_the_ids_of_runs()
    {
        Assert.Equal("rtl-c-d-模", Printable.Plain("rtl\u202Ec\u001Bd\uD83D模", '-'));
        Assert.StartsWith("rtl-cod-", Core.Runs.RunPaths.Id("rtl\u202Ecod", []), StringComparison.Ordinal);
    }

    [Fact]
    public void A_report_shows_names_escaped_and_keeps_the_lines_of_its_recipe()
    {
        var layer = new ReportLayer(
            "w\u001B[2J\u202E<b>",
            null,
            "MatMul\u0007",
            [2, 2],
            [],
            8,
            0,
            null,
            16,
            4,
            0,
            0,
            null,
            null,
            false,
            null
        )
        {
            Fallback = "\u009B",
        };
        var report = new Report(
            "succeeded",
            "r",
            "m\u001B.onnx",
            new ReportSize(16, 4, 0.25),
            new ReportParameters(4, 4, 4),
            new ReportFidelity("synthetic", 1, 1, 0, null),
            null,
            new ReportLatency(1, 1, 1, 1),
            null,
            [layer],
            1,
            0,
            0
        );
        var html = HtmlReport.Render(report, "version: 1\nsteps:\n- quantize: {match: \"\u001B\"}\n");
        Assert.DoesNotContain(html, c => char.IsControl(c) && c is not ('\n' or '\t'));
        Assert.DoesNotContain('\u202E', html);
        Assert.Contains("w\\u001B[2J\\u202E&lt;b&gt;", html);
        Assert.Contains("version: 1\nsteps:\n", html);
    }

    [Fact]
    public async Task A_failure_is_written_without_the_paths_of_this_machine()
    {
        using var folder = new Folder();
        var containers = new[] { "drop", "work", "failed" }.ToDictionary(c => c, c => Path.Combine(folder.Path, "in box", c));
        var store = new FolderStore(containers);
        var temp = Path.Combine(Path.GetTempPath(), "serverless-abc", "model.onnx");
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        var error =
            $"OnnxRuntimeException: Load model from {containers["work"]}/r/out/model.onnx failed: node /encoder/MatMul, {temp}; "
            + $"'{home}/.cache/x.bin', {AppContext.BaseDirectory}lib.so: /tmpx/y stays\u001B.";
        await new WriteFailure().RunAsync(
            new FailureInput("r-1", $"{containers["drop"]}/m.onnx", error),
            new ActivityContext(store, new MemoryGate(0)),
            default
        );
        var text = System.Text.Encoding.UTF8.GetString(await store.ReadBytesAsync(RunPaths.Failure("r-1"), 1 << 20, default));
        using var json = System.Text.Json.JsonDocument.Parse(text);
        Assert.Equal("drop/m.onnx", json.RootElement.GetProperty("model").GetString());
        Assert.Equal(
            "OnnxRuntimeException: Load model from work/r/out/model.onnx failed: node /encoder/MatMul, model.onnx; 'x.bin', lib.so: /tmpx/y stays\\u001B.",
            json.RootElement.GetProperty("error").GetString()
        );
        Assert.DoesNotContain(folder.Path, text);
    }

    [Theory]
    [InlineData("digits", "digits")]
    [InlineData("a/b\\c#d?e:f\n", "a-b-c-d-e-f-")]
    [InlineData("", "model")]
    [InlineData("..", "model")]
    public void An_id_is_a_name_that_every_store_takes(string name, string kept) =>
        Assert.Equal(kept, RunPaths.Name(RunPaths.Id(name, [])));

    [Theory]
    [InlineData("x", 120, 300)]
    [InlineData("模", 40, 83)]
    [InlineData("😀", 30, 60)]
    [InlineData("é", 60, 200)]
    public void An_id_is_cut_by_bytes_between_characters(string letter, int kept, int count)
    {
        var id = RunPaths.Id(string.Concat(Enumerable.Repeat(letter, count)), []);
        Assert.Equal(string.Concat(Enumerable.Repeat(letter, kept)), RunPaths.Name(id));
        Assert.True(System.Text.Encoding.UTF8.GetByteCount(id + ".lock") <= StorePath.LongestName);
        Assert.True(Uri.EscapeDataString(RunPaths.Output(id)).Length < 1024);
    }
}
