using System.Net;

namespace Serverless.Core.Reports;

/// <summary>Text inside HTML and SVG.</summary>
internal static class HtmlText
{
    /// <summary>Text that marks nothing up and drives nothing; its line feeds stay.</summary>
    public static string Escape(string text) => WebUtility.HtmlEncode(Printable.Lines(text));
}
