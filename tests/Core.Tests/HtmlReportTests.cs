using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Serverless.Core.Reports;
using Serverless.Core.Techniques.Simplification;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>The page about a result: what it shows, and that names in it stay names.</summary>
public partial class HtmlReportTests
{
    private static readonly Report Plain = new(
        "succeeded",
        "r",
        "m.onnx",
        new ReportSize(4_000_000, 1_000_000, 0.25),
        new ReportParameters(4, 4, 4),
        new ReportFidelity("data", 48, 0.99, 0.01, null),
        null,
        null,
        null,
        [Layer("first"), Layer("second")],
        1,
        0,
        0
    );

    [Fact]
    public void Charts_name_their_layers()
    {
        foreach (var chart in Charts(Plain))
        {
            Assert.Equal(["first", "second"], Names(chart));
            Assert.All(chart.Descendants().Where(IsName), t => Assert.DoesNotContain("rotate", t.Attribute("transform")!.Value));
            Assert.DoesNotContain(chart.Descendants(), e => !IsName(e) && e.Value.Trim() is "-0.2" or "-0.4" or "0.8");
            Assert.True(Places(chart)[0] is > 60 and < 500 && Places(chart)[1] is > 500 and < 940, string.Join(' ', Places(chart)));
        }
    }

    [Fact]
    public void Many_long_names_are_shortened_in_the_middle_and_steep()
    {
        var layers = Enumerable
            .Range(0, 50)
            .Select(i => Layer($"encoder.layers.{i:00}.attention.self.query.weight"))
            .Select((l, i) => l with { BytesBefore = 9000 - i })
            .ToList();
        var charts = Charts(Plain with { Layers = layers }).ToList();
        Assert.Equal(2, charts.Count);
        foreach (var chart in charts)
        {
            var names = chart.Descendants().Where(IsName).ToList();
            Assert.Equal(40, names.Count);
            Assert.All(names, n => Assert.Contains("rotate(-60)", n.Attribute("transform")!.Value));
            Assert.Equal("encoder.layer….query.weight", Names(chart)[0]);
            // The whole name is shown by a pointer that rests on it.
            Assert.Equal("encoder.layers.39.attention.self.query.weight", names[^1].Elements().Single().Value);
            Assert.Equal(Places(chart).Order(), Places(chart));
            Assert.True(Places(chart)[^1] < 960);
        }
    }

    [Fact]
    public void Constants_that_were_computed_once_are_listed()
    {
        var html = HtmlReport.Render(
            Plain with
            {
                Notes = new()
                {
                    ["folded"] = JsonSerializer.SerializeToElement(
                        new[] { new FoldedExpression("conv.<v>", ["Div", "Mul"], "INT8", 8000, 2000) },
                        Json.Options
                    ),
                },
            },
            ""
        );
        Assert.Contains("<td>conv.&lt;v&gt;<td>Div, Mul<td>INT8<td class=\"n\">8000 B<td class=\"n\">2000 B", html);
    }

    [Fact]
    public void A_curve_is_drawn_above_its_rows()
    {
        var rows = new[]
        {
            new
            {
                Name = "a",
                Blocks = 1,
                Error = 0.1,
            },
            new
            {
                Name = "b",
                Blocks = 2,
                Error = 0.4,
            },
        };
        string Page(string field) =>
            HtmlReport.Render(
                Plain with
                {
                    Layers = [],
                    Notes = new() { [field] = JsonSerializer.SerializeToElement(rows, Json.Options) },
                },
                ""
            );
        var chart = Assert.Single(Svg().Matches(Page("blockCurve")).Select(m => XElement.Parse(m.Value)));
        Assert.Equal(2, chart.Descendants().Count(e => e.Name.LocalName == "circle"));
        Assert.Contains("Error", chart.Value, StringComparison.Ordinal);
        Assert.Contains("Blocks", chart.Value, StringComparison.Ordinal);
        Assert.Contains("<td>b<td class=\"n\">2<td class=\"n\">0.4", Page("blockCurve"));
        Assert.Empty(Svg().Matches(Page("blocks")));
    }

    [Theory]
    [InlineData("</text></svg><script>alert(1)</script>", "</text></svg>…t(1)</script>")]
    [InlineData("a&b\"c'd]]>", "a&b\"c'd]]>")]
    [InlineData("模型/权重😀", "模型/权重😀")]
    [InlineData("", "")]
    [InlineData("编码器层注意力查询权重编码器层注意力查询权重", "编码器层注意…意力查询权重")]
    [InlineData("w\u001B\u202E\uFFFF", "w\\u001B\\u202E\\uFFFF")]
    public void A_name_is_text_in_a_chart(string name, string shown)
    {
        var report = Plain with { Layers = [Layer(name)], Warnings = [$"Beware of '{name}'."], Model = name };
        Assert.All(Charts(report), c => Assert.Equal([shown], Names(c)));
        Assert.DoesNotContain("<script", HtmlReport.Render(report, name));
    }

    [Fact]
    public void Warnings_stand_above_the_figures()
    {
        var html = HtmlReport.Render(Plain with { Warnings = ["One <b>.", "Two."] }, "");
        Assert.Contains("<li>One &lt;b&gt;.</li><li>Two.</li>", html);
        Assert.True(html.IndexOf("<li>", StringComparison.Ordinal) < html.IndexOf("class=\"tiles\"", StringComparison.Ordinal));
        Assert.DoesNotContain("<ul", HtmlReport.Render(Plain, ""));
    }

    [Fact]
    public void Outputs_are_a_table_when_there_are_several_or_one_changed_its_shape()
    {
        Assert.DoesNotContain("<h2>Outputs", Page(Plain.Fidelity with { Outputs = [new("y", "Float", 1, 0, 9, 0, 9, 9)] }));
        Assert.Contains(
            "<td>y<td>Float<td class=\"n\">0.500000<td class=\"n\">0.2500<td class=\"n\">1,200<td class=\"n\">3",
            Page(Plain.Fidelity with { Outputs = [new("y", "Float", 0.5, 0.25, 1200, 3, 1200, 1300)] })
        );
        Assert.Contains(
            "<td>z&lt;<td>String<td class=\"n\"><td class=\"n\">",
            Page(Plain.Fidelity with { Outputs = [new("y", "Float", 1, 0, 9, 0, 9, 9), new("z<", "String", null, null, 0, 0, 4, 4)] })
        );

        static string Page(ReportFidelity fidelity) => HtmlReport.Render(Plain with { Fidelity = fidelity }, "");
    }

    [Fact]
    public void Latency_has_its_spread_and_says_when_it_is_noise()
    {
        var noise = new ReportLatency(0.5, 0.52, 1.04, 1) { RatioLow = 0.9, RatioHigh = 1.1 };
        var html = HtmlReport.Render(Plain with { Latency = noise }, "");
        Assert.Contains("0.500 ms → 0.520 ms", html);
        Assert.Contains("×1.04 (0.90 to 1.10)", html);
        Assert.Contains("no difference beyond the noise", html);
        var clear = HtmlReport.Render(Plain with { Latency = noise with { Conclusive = true } }, "");
        Assert.DoesNotContain("no difference beyond the noise", clear);
        Assert.Contains("larger than the noise", clear);
    }

    [Theory]
    [InlineData("none", "it needs <b>", "The outputs were not compared: it needs &lt;b&gt;.")]
    [InlineData("none", null, "The outputs were not compared.")]
    [InlineData("data", "no number", "The outputs were not compared: no number.")]
    public void What_was_not_compared_has_its_reason_in_the_place_of_figures(string source, string? why, string said)
    {
        var html = HtmlReport.Render(Plain with { Fidelity = new ReportFidelity(source, 0, null, null, null) { NotCompared = why } }, "");
        Assert.Contains(said, html);
        Assert.DoesNotContain("Top-1", html);
        Assert.DoesNotContain("Cosine", html);
    }

    [Fact]
    public void The_source_of_samples_is_named()
    {
        Assert.Contains("compared on 48 samples of the dropped data.", HtmlReport.Render(Plain, ""));
        var synthetic = Plain with { Fidelity = Plain.Fidelity with { Source = "synthetic", Samples = 1 } };
        Assert.Contains("compared on 1 synthetic input. <b>Synthetic</b>", HtmlReport.Render(synthetic, ""));
    }

    private static ReportLayer Layer(string name) =>
        new(name, null, "MatMul", [64, 64], ["quantize: rtn"], 8, 0, null, 16_384, 4_096, 0.01, 0, "Folded", null, false, null);

    // Charts that are no XML fail here.
    private static IEnumerable<XElement> Charts(Report report) =>
        Svg().Matches(HtmlReport.Render(report, "")).Select(m => XElement.Parse(m.Value));

    private static bool IsName(XElement e) => e.Attribute("class")?.Value == "layer";

    private static List<string> Names(XElement chart) =>
        [.. chart.Descendants().Where(IsName).Select(t => string.Concat(t.Nodes().OfType<XText>().Select(n => n.Value)))];

    private static List<double> Places(XElement chart) =>
        [
            .. chart
                .Descendants()
                .Where(IsName)
                .Select(t => double.Parse(t.Attribute("transform")!.Value.Split('(', ' ')[1], CultureInfo.InvariantCulture)),
        ];

    [GeneratedRegex("<svg.*?</svg>", RegexOptions.Singleline)]
    private static partial Regex Svg();
}
