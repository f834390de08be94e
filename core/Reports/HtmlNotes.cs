using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Serverless.Core.Reports;

/// <summary>
/// Figures of the steps in the HTML report: a table a step, whatever the step is. Above the rows of a field that ends in <c>Curve</c> their
/// second number is drawn over the first.
/// </summary>
internal static partial class HtmlNotes
{
    public static void Append(StringBuilder html, IReadOnlyDictionary<string, JsonElement> notes)
    {
        foreach (var (field, figures) in notes.OrderBy(n => n.Key, StringComparer.Ordinal))
        {
            if (figures.ValueKind == JsonValueKind.Array && figures.GetArrayLength() > 0)
            {
                html.Append("<h2>").Append(Words(field)).Append("</h2>");
                if (field.EndsWith("Curve", StringComparison.Ordinal))
                    Curve(html, [.. figures.EnumerateArray()]);
                Table(html, [.. figures.EnumerateArray()]);
            }
            else if (figures.ValueKind == JsonValueKind.Object)
                Table(html.Append("<h2>").Append(Words(field)).Append("</h2>"), [figures]);
        }
    }

    private static void Curve(StringBuilder html, IReadOnlyList<JsonElement> rows)
    {
        var numbers =
            rows[0].ValueKind == JsonValueKind.Object ? rows[0].EnumerateObject().Where(p => IsNumber(p.Value)).Take(2).ToList() : [];
        if (numbers is not [{ Name: var x }, { Name: var y }])
            return;
        var points = rows.Where(r => r.TryGetProperty(x, out var a) && IsNumber(a) && r.TryGetProperty(y, out var b) && IsNumber(b))
            .Select(r => (r.GetProperty(x).GetDouble(), r.GetProperty(y).GetDouble()))
            .ToList();
        html.Append("<figure>").Append(ReportCharts.Curve(Words(x), Words(y), points)).Append("</figure>");

        static bool IsNumber(JsonElement value) => value.ValueKind == JsonValueKind.Number;
    }

    private static void Table(StringBuilder html, IReadOnlyList<JsonElement> rows)
    {
        var columns = rows.Where(r => r.ValueKind == JsonValueKind.Object)
            .SelectMany(r => r.EnumerateObject())
            .Where(p => p.Value.ValueKind is not (JsonValueKind.Null or JsonValueKind.Object))
            .Select(p => p.Name)
            .Distinct()
            .ToList();
        html.Append("<table><thead><tr>");
        foreach (var column in columns)
            html.Append("<th>").Append(Words(column));
        html.Append("</tr></thead><tbody>");
        foreach (var row in rows.Where(r => r.ValueKind == JsonValueKind.Object))
        {
            html.Append("<tr>");
            foreach (var column in columns)
            {
                var value = row.TryGetProperty(column, out var v) ? v : default;
                html.Append(value.ValueKind == JsonValueKind.Number ? "<td class=\"n\">" : "<td>")
                    .Append(HtmlText.Escape(Text(column, value)));
            }
            html.Append("</tr>");
        }
        html.Append("</tbody></table>");
    }

    private static string Text(string column, JsonElement value) =>
        value.ValueKind switch
        {
            JsonValueKind.Number when column.StartsWith("bytes", StringComparison.Ordinal) => ByteCount.Text(value.GetInt64()),
            JsonValueKind.Number => value.GetDouble().ToString("#,0.####", CultureInfo.InvariantCulture),
            JsonValueKind.String => value.GetString()!,
            JsonValueKind.Array => string.Join(", ", value.EnumerateArray().Select(v => Text("", v)).Distinct()),
            JsonValueKind.True => "yes",
            JsonValueKind.False => "no",
            _ => "",
        };

    // A field's name as words: biasCorrection → Bias correction.
    private static string Words(string field)
    {
        var words = Capitals().Replace(field, m => " " + m.Value.ToLowerInvariant());
        return HtmlText.Escape(char.ToUpperInvariant(words[0]) + words[1..]);
    }

    [GeneratedRegex("(?<=.)[A-Z]")]
    private static partial Regex Capitals();
}
