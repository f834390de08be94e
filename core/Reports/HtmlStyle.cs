namespace Serverless.Core.Reports;

/// <summary>The look of the HTML report.</summary>
internal static class HtmlStyle
{
    public const string Css = """
        :root{font:15px/1.5 system-ui,sans-serif;color:#1b2430;background:#fff}
        main{max-width:1080px;margin:2rem auto;padding:0 1rem}
        h1{margin:0;font-size:1.6rem;overflow-wrap:anywhere}
        h2{margin:2rem 0 .5rem;font-size:1.15rem}
        .lead{font-size:1.15rem;margin:.3rem 0 1.2rem}
        .warn{color:#9a3412;font-weight:600}
        .warnings{border-left:4px solid #c2410c;background:#fff7ed;margin:0 0 1.2rem;padding:.6rem .9rem .6rem 2rem;overflow-wrap:anywhere}
        .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:.6rem}
        .tiles div{border:1px solid #d5dce4;border-radius:6px;padding:.55rem .75rem}
        .tiles span{display:block;color:#566270;font-size:.85rem}
        .tiles b{font-variant-numeric:tabular-nums}
        figure{margin:.5rem 0}
        figure svg{max-width:100%;height:auto}
        .scroll{overflow-x:auto}
        table{border-collapse:collapse;width:100%;font-size:.85rem}
        th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #e6ebf0;white-space:nowrap}
        td:first-child{max-width:22rem;overflow:hidden;text-overflow:ellipsis}
        .n{text-align:right;font-variant-numeric:tabular-nums}
        pre{background:#f4f6f9;padding:.8rem;border-radius:6px;overflow-x:auto}
        .small{color:#566270;font-size:.85rem}
        """;
}
