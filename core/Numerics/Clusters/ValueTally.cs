using System.Runtime.InteropServices;

namespace Serverless.Core.Numerics;

/// <summary>
/// Numbers with masses, added in any order: exactly up to a million, from there on in 2²⁰ buckets of equal upper bits, each with its mass,
/// mean and squares. A bucket is as wide as a 2,048th of its place.
/// </summary>
public sealed class ValueTally
{
    private const int Exact = 1 << 20,
        Lower = 12;
    private List<float>? values = [];
    private List<double> masses = [];
    private double[] mass = [],
        sum = [],
        squares = [];

    /// <summary>Adds a number.</summary>
    /// <param name="value">Finite.</param>
    /// <param name="weight">Its mass; not negative.</param>
    public void Add(float value, double weight)
    {
        if (values is null)
        {
            Bucket(value, weight);
            return;
        }
        values.Add(value);
        masses.Add(weight);
        if (values.Count > Exact)
            Spill();
    }

    /// <summary>The numbers in order; equal ones are one.</summary>
    public LinePoints ToPoints()
    {
        var points = new List<(double, double, double)>();
        if (values is null)
        {
            for (var b = 0; b < mass.Length; b++)
                if (mass[b] > 0)
                    points.Add((sum[b] / mass[b], mass[b], squares[b]));
            return new LinePoints(points);
        }
        var (sorted, by) = (values.ToArray(), masses.ToArray());
        Array.Sort(sorted, by);
        for (var i = 0; i < sorted.Length; )
        {
            var (value, total) = (sorted[i], 0.0);
            for (; i < sorted.Length && sorted[i] == value; i++)
                total += by[i];
            points.Add((value, total, total * value * value));
        }
        return new LinePoints(points);
    }

    private void Spill()
    {
        (mass, sum, squares) = (new double[Exact], new double[Exact], new double[Exact]);
        var held = CollectionsMarshal.AsSpan(values);
        for (var i = 0; i < held.Length; i++)
            Bucket(held[i], masses[i]);
        (values, masses) = (null, []);
    }

    private void Bucket(float value, double weight)
    {
        // The bits of floats in the order of the numbers.
        var bits = BitConverter.SingleToUInt32Bits(value);
        var b = (bits >> 31 == 0 ? bits | 0x8000_0000 : ~bits) >> Lower;
        mass[b] += weight;
        sum[b] += weight * value;
        squares[b] += weight * value * value;
    }
}
