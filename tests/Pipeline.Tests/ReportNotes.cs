using System.Text.Json;
using Serverless.Core;
using Serverless.Core.Reports;
using Serverless.Core.Techniques.BiasCorrection;
using Serverless.Core.Techniques.Scaling;
using Serverless.Core.Techniques.Simplification;

namespace Serverless.Pipeline.Tests;

/// <summary>Figures that steps leave in a report, as their records.</summary>
public static class ReportNotes
{
    extension(Report report)
    {
        public BiasesCorrected? BiasCorrection => Note<BiasesCorrected>(report, CorrectBiases.Field);

        public Rescaling? Rescaling => Note<Rescaling>(report, "rescaling");

        public IReadOnlyList<FoldedExpression> Folded => Note<IReadOnlyList<FoldedExpression>>(report, "folded") ?? [];
    }

    private static T? Note<T>(Report report, string field)
        where T : class => report.Notes.TryGetValue(field, out var figures) ? figures.Deserialize<T>(Json.Options) : null;
}
