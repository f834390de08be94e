using System.Numerics.Tensors;
using Serverless.Core.Execution;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>
/// Fits layers one after another to what they made in the model before, from what they take in the cut one: errors of the layers in front
/// are made up for too (He et al. 2017, section 3.1, "whole model pruning").
/// </summary>
internal sealed class StagedRefit
{
    private readonly CutModel cut;
    private readonly IReadOnlyList<Fit> fits;
    private readonly Observed observed;
    private readonly CancellationToken cancellation;

    private StagedRefit(CutModel cut, IReadOnlyList<Fit> fits, Observed observed, CancellationToken cancellation) =>
        (this.cut, this.fits, this.observed, this.cancellation) = (cut, fits, observed, cancellation);

    /// <summary>Fits the layers of a cut model in place.</summary>
    /// <param name="cut">The model, its other constants in <paramref name="folder"/>.</param>
    /// <param name="folder">Local folder of the model before.</param>
    /// <param name="layers">The layers, as they were before.</param>
    /// <param name="biases">Their biases before, by place.</param>
    /// <param name="observed">What they made before.</param>
    /// <param name="samples">The samples.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>Places of the constants that were fitted, or null where values between the layers take too much of the disk.</returns>
    public static IReadOnlyList<int>? Run(
        CutModel cut,
        string folder,
        IReadOnlyList<LinearLayer> layers,
        IReadOnlyDictionary<int, float[]> biases,
        Observed observed,
        IEnumerable<Sample> samples,
        CancellationToken cancellation
    )
    {
        var made = cut.Model.Graph.Node.SelectMany(n => n.Output).ToHashSet(StringComparer.Ordinal);
        var fits = layers
            .Where(l => made.Contains(l.View.Value))
            .Select(l => Fit.Of(cut, l, observed.Output(l), l.Bias is { } b ? biases[b] : null))
            .ToList();
        var run = new StagedRefit(cut, fits, observed, cancellation);
        try
        {
            using var live = new LiveValues();
            StagedRun.Run(
                cut.Model,
                folder,
                fits.Select(f => f.Layer.View.Value).ToHashSet(StringComparer.Ordinal),
                samples,
                live,
                run.See,
                run.Solve,
                cancellation
            );
            return [.. fits.Where(f => f.IsFitted).SelectMany(f => f.Layer.Bias is { } b ? new[] { f.Layer.Tensor, b } : [f.Layer.Tensor])];
        }
        catch (LiveLimitException)
        {
            return null;
        }
        finally
        {
            foreach (var fit in fits)
                fit.Dispose();
        }
    }

    private void See(string name, ReadOnlySpan<float> values, ReadOnlySpan<long> shape)
    {
        foreach (var fit in fits)
            if (fit.Layer.View.Value == name)
                fit.Add(values, shape, observed.MostRows);
    }

    private void Solve(string value)
    {
        foreach (var fit in fits.Where(f => f.Layer.View.Value == value))
        {
            fit.Solve(cut, observed, cancellation);
            fit.Dispose();
        }
    }

    /// <summary>A layer of the cut model, and Σ y·xᵀ of what it is to make of what it takes.</summary>
    private sealed class Fit : IDisposable
    {
        private readonly LayerOutputs outputs;
        private readonly IReadOnlyList<int> rowsKept;
        private readonly int rowsBefore;
        private readonly float[]? bias;
        private readonly LayerMoments moments;
        private readonly double[] sums;
        private double[] cross,
            next;
        private int samples;

        private Fit(LinearLayer layer, LayerOutputs outputs, IReadOnlyList<int> rowsKept, int rowsBefore, float[]? bias)
        {
            (Layer, this.outputs, this.rowsKept, this.rowsBefore, this.bias) = (layer, outputs, rowsKept, rowsBefore, bias);
            moments = new LayerMoments(layer.View);
            (cross, next) = (new double[layer.Rows * layer.Columns], new double[layer.Rows * layer.Columns]);
            sums = new double[layer.Rows];
        }

        /// <summary>The layer as it is cut.</summary>
        public LinearLayer Layer { get; }

        /// <summary>Whether it was fitted.</summary>
        public bool IsFitted { get; private set; }

        public static Fit Of(CutModel cut, LinearLayer layer, LayerOutputs outputs, float[]? bias)
        {
            var rows = cut.Kept(layer.Tensor, layer.RowAxis, layer.Rows);
            var columns = cut.Kept(layer.Tensor, 1 - layer.RowAxis, layer.Columns / layer.Kernel).Count * layer.Kernel;
            return new Fit(layer.Cut(rows.Count, columns), outputs, rows, layer.Rows, bias);
        }

        public void Add(ReadOnlySpan<float> values, ReadOnlySpan<long> shape, int most)
        {
            var wanted = outputs[samples++];
            var count = wanted.Length / rowsBefore;
            // What was not finite before, or has other rows now, is passed over.
            if (count == 0 || moments.Add(values, shape, most) is not { Length: > 0 } taken || taken.Length != count * Layer.Columns)
                return;
            var y = new double[count * Layer.Rows];
            for (var i = 0; i < count; i++)
            {
                var row = y.AsSpan(i * Layer.Rows, Layer.Rows);
                for (var r = 0; r < row.Length; r++)
                    row[r] = wanted[i * rowsBefore + rowsKept[r]];
                TensorPrimitives.Add(sums, row, sums);
            }
            var x = System.Runtime.InteropServices.MemoryMarshal.AsMemory(taken);
            MatrixProduct.Multiply(1, y, true, x, false, cross, next, Layer.Rows, count, Layer.Columns);
            (cross, next) = (next, cross);
        }

        public void Solve(CutModel cut, Observed observed, CancellationToken cancellation)
        {
            if (moments.Count == 0)
                return;
            var centred = Layer.Bias is not null;
            var square = moments.Matrix(centred);
            double n = moments.Count;
            for (var r = 0; r < Layer.Rows; r++)
            for (var k = 0; k < Layer.Columns; k++)
                cross[r * Layer.Columns + k] = cross[r * Layer.Columns + k] / n - (centred ? sums[r] / n * (moments.Sums[k] / n) : 0);
            var start = Layer.Matrix(Floats(cut, Layer.Tensor));
            var damping = observed.Damping(square, moments.Count);
            if (LeastSquares.Solve(square, cross, start, Layer.Rows, damping, cancellation) is not { } solved || !Layer.Holds(solved))
                return;
            cut.Put(Layer.Tensor, Layer.Stored(solved));
            IsFitted = true;
            if (Layer.Bias is not { } place)
                return;
            // Where an Add behind the product adds the bias, the outputs are without it.
            var fitted = new float[Layer.Rows];
            for (var r = 0; r < Layer.Rows; r++)
            {
                var mean = sums[r] / n + (Layer.BiasBehind ? bias![rowsKept[r]] : 0);
                for (var k = 0; k < Layer.Columns; k++)
                    mean -= solved[r * Layer.Columns + k] * moments.Sums[k] / n;
                fitted[r] = (float)mean;
            }
            cut.Put(place, fitted);
        }

        public void Dispose() => moments.Dispose();

        private static float[] Floats(CutModel cut, int place)
        {
            var tensor = cut.Constants[place];
            var floats = new float[tensor.Dims.Aggregate(1L, (a, b) => a * b)];
            FloatConversion.ToFloat(tensor.RawData.Span, tensor.DataType, floats);
            return floats;
        }
    }
}
