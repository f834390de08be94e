namespace Serverless.Core.Statistics;

/// <summary>Takes rows of X out of a tensor (<see cref="InputView"/>): vectors along the last axis, or patches (im2col).</summary>
public static class InputRows
{
    /// <summary>
    /// Copies up to <paramref name="most"/> rows of one group, evenly spaced over the tensor.
    /// </summary>
    /// <param name="values">The tensor.</param>
    /// <param name="shape">Its dimensions.</param>
    /// <param name="view">How to view it.</param>
    /// <param name="group">The group of channels.</param>
    /// <param name="most">Rows at most.</param>
    /// <param name="rows">Receives rows × axis; only whole rows.</param>
    /// <returns>The number of rows; 0 when the tensor does not fit the view.</returns>
    public static int Take(ReadOnlySpan<float> values, ReadOnlySpan<long> shape, InputView view, int group, int most, Span<double> rows)
    {
        if (view.Window is { } window)
            return Patches(values, shape, view.Axis, window, group, most, rows);
        if (shape.Length == 0 || shape[^1] != view.Axis)
            return 0;
        var total = values.Length / view.Axis;
        var count = Math.Min(most, total);
        for (var i = 0; i < count; i++)
        {
            var from = values.Slice((int)((long)i * total / count) * view.Axis, view.Axis);
            var to = rows.Slice(i * view.Axis, view.Axis);
            for (var k = 0; k < from.Length; k++)
                to[k] = from[k];
        }
        return count;
    }

    /// <summary>The convolution's output height and width, and the padding above and to the left.</summary>
    public static (int Height, int Width, int Top, int Left) Output(ConvWindow w, int height, int width)
    {
        var (h, top) = One(0, height);
        var (v, left) = One(1, width);
        return (h, v, top, left);

        (int Length, int Before) One(int axis, int length)
        {
            var reach = (w.Kernel[axis] - 1) * w.Dilations[axis] + 1;
            if (w.Pads is { } p)
                return (Math.Max(0, (length + p[axis] + p[axis + 2] - reach) / w.Strides[axis] + 1), p[axis]);
            var made = (length + w.Strides[axis] - 1) / w.Strides[axis];
            var padding = Math.Max(0, (made - 1) * w.Strides[axis] + reach - length);
            return (made, w.SameLower ? padding - padding / 2 : padding / 2);
        }
    }

    private static int Patches(
        ReadOnlySpan<float> values,
        ReadOnlySpan<long> shape,
        int axis,
        ConvWindow w,
        int group,
        int most,
        Span<double> rows
    )
    {
        if (shape.Length is not (3 or 4))
            return 0;
        var (batch, channels) = ((int)shape[0], (int)shape[1]);
        var (height, width) = (shape.Length == 3 ? 1 : (int)shape[2], (int)shape[^1]);
        var (kh, kw) = (w.Kernel[0], w.Kernel[1]);
        var each = channels / w.Groups;
        if (each * kh * kw != axis)
            return 0;
        var (outHeight, outWidth, top, left) = Output(w, height, width);
        var total = (long)batch * outHeight * outWidth;
        var count = (int)Math.Min(most, total);
        for (var i = 0; i < count; i++)
        {
            var at = i * total / count;
            var (x, y, b) = ((int)(at % outWidth), (int)(at / outWidth % outHeight), (int)(at / outWidth / outHeight));
            var row = rows.Slice(i * axis, axis);
            for (var c = 0; c < each; c++)
            {
                var plane = values.Slice((b * channels + group * each + c) * height * width, height * width);
                for (var ky = 0; ky < kh; ky++)
                {
                    var iy = y * w.Strides[0] - top + ky * w.Dilations[0];
                    for (var kx = 0; kx < kw; kx++)
                    {
                        var ix = x * w.Strides[1] - left + kx * w.Dilations[1];
                        row[(c * kh + ky) * kw + kx] = iy < 0 || iy >= height || ix < 0 || ix >= width ? 0 : plane[iy * width + ix];
                    }
                }
            }
        }
        return count;
    }
}
