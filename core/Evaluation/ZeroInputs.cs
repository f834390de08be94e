using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>Finds float inputs that are zero in every sample: data that was allocated and never filled.</summary>
internal sealed class ZeroInputs
{
    private readonly HashSet<string> zero = new(StringComparer.Ordinal),
        seen = new(StringComparer.Ordinal);

    /// <summary>Looks at a sample.</summary>
    public void See(Sample sample)
    {
        foreach (var (name, value) in sample.Inputs)
        {
            if (!ElementTypes.IsFloat(value.Type))
                continue;
            if (seen.Add(name))
                zero.Add(name);
            if (zero.Contains(name) && !IsZero(value))
                zero.Remove(name);
        }
    }

    // −0 is zero too.
    private static bool IsZero(TensorValue value)
    {
        if (!value.Bytes.AsSpan().ContainsAnyExcept((byte)0))
            return true;
        for (var i = 0; i < value.Elements; i++)
            if (ElementTypes.Get(value.Bytes, value.Type, i) != 0)
                return false;
        return true;
    }

    /// <summary>The float inputs, where all of them held nothing but zeros; a recurrent state alone may well be zero.</summary>
    public IReadOnlyList<string> Names => zero.Count == seen.Count ? [.. zero.Order(StringComparer.Ordinal)] : [];
}
