using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>How near one output of the compressed model is to the original's, over all samples.</summary>
/// <param name="Name">The output.</param>
/// <param name="Type">Element type, as ONNX Runtime names it.</param>
/// <param name="Cosine">Σab / √(Σa²·Σb²); null where no number was compared.</param>
/// <param name="RelativeError">‖a − b‖ / ‖a‖; null where no number was compared.</param>
/// <param name="Compared">Elements compared: those that are finite in the original.</param>
/// <param name="ChangedShapes">Samples whose output has another shape than the original's.</param>
/// <param name="ElementsBefore">Elements of the original's output, all samples together.</param>
/// <param name="ElementsAfter">Elements of the compressed model's.</param>
public sealed record OutputFidelity(
    string Name,
    string Type,
    double? Cosine,
    double? RelativeError,
    long Compared,
    int ChangedShapes,
    long ElementsBefore,
    long ElementsAfter
);

/// <summary>
/// How near the compressed model's outputs are to the original's; where there are several outputs, or several groups of
/// samples, the worst of them counts. Elements of one model that the other lacks are compared with zero.
/// </summary>
public sealed class Fidelity
{
    private readonly Dictionary<(string Output, string Group), ErrorSums> sums = [];
    private readonly Dictionary<string, Shapes> shapes = new(StringComparer.Ordinal);
    private readonly TopClasses classes = new();

    /// <summary>Σab / √(Σa²·Σb²) of the worst output; null where no number was compared, or only zeros with zeros.</summary>
    public double? Cosine => Numbers.Min(s => (double?)s.Cosine);

    /// <summary>‖a − b‖ / ‖a‖ of the worst output; null where no number was compared.</summary>
    public double? RelativeError => Numbers.Max(s => (double?)s.RelativeError);

    /// <summary>Share of decisions that stay the same (<see cref="TopClasses"/>); null without any.</summary>
    public double? Top1Agreement => classes.Rows == 0 || DecidesNothing ? null : (double)classes.Agreeing / classes.Rows;

    /// <summary>Accuracy of the original over labelled rows; null without labels.</summary>
    public double? AccuracyBefore => classes.Labelled == 0 ? null : (double)classes.RightBefore / classes.Labelled;

    /// <summary>Accuracy of the compressed model; null without labels.</summary>
    public double? AccuracyAfter => classes.Labelled == 0 ? null : (double)classes.RightAfter / classes.Labelled;

    /// <summary>Decisions: rows of the first output.</summary>
    public long Rows => classes.Rows;

    /// <summary>Labelled rows.</summary>
    public long Labelled => classes.Labelled;

    /// <summary>Labels that are no classes of the output.</summary>
    public long LabelsOutside => classes.Outside;

    /// <summary>Numbers that were finite before compression and are NaN or infinite after.</summary>
    public long NonFinite => sums.Values.Sum(s => s.NonFinite);

    /// <summary>Every output by itself, in the model's order.</summary>
    public IReadOnlyList<OutputFidelity> Outputs => [.. shapes.Select(p => Describe(p.Key, p.Value))];

    // The first of equal scores says nothing.
    private bool DecidesNothing
    {
        get
        {
            var first = sums.Where(s => s.Key.Output == shapes.Keys.First()).Select(s => s.Value).ToList();
            return first.Count > 0 && first.All(s => s is { IsFloat: true, Tells: false });
        }
    }

    // Whole numbers are indices and labels: they count where there is nothing else.
    private IEnumerable<ErrorSums> Numbers
    {
        get
        {
            var compared = sums.Values.Where(s => s.Compared > 0 && s.Tells).ToList();
            return compared.Any(s => s.IsFloat) ? compared.Where(s => s.IsFloat) : compared;
        }
    }

    /// <summary>Adds one sample.</summary>
    /// <param name="names">Output names in the model's order.</param>
    /// <param name="before">The original's outputs.</param>
    /// <param name="after">The compressed model's.</param>
    /// <param name="labels">Right classes of the first output's rows, or null.</param>
    /// <param name="group">The group of samples that it belongs to.</param>
    public void Add(
        IReadOnlyList<string> names,
        IReadOnlyDictionary<string, TensorValue> before,
        IReadOnlyDictionary<string, TensorValue> after,
        long[]? labels,
        string group = ""
    )
    {
        foreach (var name in names)
        {
            var (a, b) = (before[name], after[name]);
            if (!shapes.TryGetValue(name, out var shape))
                shapes[name] = shape = new Shapes(a.Type);
            shape.Before += a.Elements;
            shape.After += b.Elements;
            if (!a.Shape.SequenceEqual(b.Shape))
                shape.Changed++;
            if (ElementTypes.Size(a.Type) == 0 || ElementTypes.Size(b.Type) == 0)
                continue;
            if (!sums.TryGetValue((name, group), out var s))
                sums[(name, group)] = s = new ErrorSums(ElementTypes.IsFloat(a.Type));
            s.Add(a, b);
        }
        if (names.Count > 0)
            classes.Add(before[names[0]], after[names[0]], labels);
    }

    private OutputFidelity Describe(string name, Shapes shape)
    {
        var own = sums.Where(s => s.Key.Output == name && s.Value.Compared > 0).Select(s => s.Value).ToList();
        var telling = own.Where(s => s.Tells).ToList();
        return new OutputFidelity(
            name,
            shape.Type == TensorElementType.DataTypeMax ? "Other" : shape.Type.ToString(),
            telling.Min(s => (double?)s.Cosine),
            telling.Max(s => (double?)s.RelativeError),
            own.Sum(s => s.Compared),
            shape.Changed,
            shape.Before,
            shape.After
        );
    }

    private sealed class Shapes(TensorElementType type)
    {
        public TensorElementType Type => type;

        public int Changed { get; set; }

        public long Before { get; set; }

        public long After { get; set; }
    }
}
