using CsCheck;
using Serverless.Core.Numerics;
using Serverless.Core.Techniques.Quantization;
using Xunit;

namespace Serverless.Core.Tests;

public class RoundingTests
{
    [Theory]
    [InlineData(0, -127, 127)]
    [InlineData(128, 1, 255)]
    [InlineData(8, 0, 15)]
    [InlineData(37, 0, 255)]
    public void Vector_and_scalar_agree_to_the_last_integer(int zero, int low, int high) =>
        Gen.Select(Gen.Float[-3f, 3f].Array[0, 300], Gen.Float[1e-3f, 0.1f])
            .Sample(
                (weights, scale) =>
                {
                    var codes = new byte[weights.Length];
                    Rounding.Quantize(weights, scale, zero, low, high, codes);
                    return codes.SequenceEqual(weights.Select(w => (byte)Rounding.Quantize(w, scale, zero, low, high)));
                }
            );

    [Fact]
    public void Ties_go_to_even_and_near_ties_to_their_own_side()
    {
        foreach (var scale in new[] { 0.1f, 1f / 3, 0.007f, 3.3e-5f, 1f })
        {
            var weights = new List<float>();
            for (var q = -126; q < 126; q++)
            {
                var tie = (float)((q + 0.5) * scale);
                weights.AddRange([tie, MathF.BitIncrement(tie), MathF.BitDecrement(tie)]);
            }
            var expected = weights
                .Select(w => (sbyte)Math.Clamp(Math.Round((double)w / scale, MidpointRounding.ToEven), -127, 127))
                .ToArray();
            var codes = new byte[weights.Count];
            Rounding.Quantize(weights.ToArray(), scale, 0, -127, 127, codes);
            Assert.Equal(expected, codes.Select(c => (sbyte)c));
        }
    }

    [Fact]
    public void Both_vector_widths_equal_the_scalar_loop()
    {
        var random = new Random(3);
        var weights = Enumerable.Range(0, 64 * 50).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray();
        const float Scale = 0.5f / 127;
        var scalar = weights.Select(w => (byte)Rounding.Quantize(w, Scale, 0, -127, 127)).ToArray();
        var (wide, narrow) = (new byte[weights.Length], new byte[weights.Length]);
        Assert.Equal(weights.Length, Rounding.Vector512Blocks(weights, Scale, 1 / Scale, 0, -127, 127, wide));
        Assert.Equal(weights.Length, Rounding.Vector256Blocks(weights, Scale, 1 / Scale, 0, -127, 127, narrow));
        Assert.Equal(scalar, wide);
        Assert.Equal(scalar, narrow);
    }

    [Theory]
    [InlineData(0f)]
    [InlineData(1e-42f)]
    [InlineData(-0.01f)]
    public void Odd_scales_follow_the_reference(float scale)
    {
        float[] weights = [.. Enumerable.Range(-40, 80).Select(i => i * 0.003f)];
        var codes = new byte[weights.Length];
        Rounding.Quantize(weights, scale, 8, 0, 15, codes);
        Assert.Equal(weights.Select(w => (byte)Rounding.Quantize(w, scale, 8, 0, 15)), codes);
    }

    [Fact]
    public void Squared_error_equals_the_double_loop() =>
        Gen.Select(Gen.Float[-1f, 1f].Array[1, 200], Gen.Float[1e-3f, 0.1f])
            .Sample(
                (weights, scale) =>
                {
                    var expected = weights.Sum(w =>
                        Math.Pow(w - Math.Clamp(Math.Round((double)w / scale, MidpointRounding.ToEven), -8, 7) * scale, 2)
                    );
                    var actual = Rounding.SquaredError(weights, scale, 0, -8, 7);
                    return Math.Abs(expected - actual) <= 1e-4 * expected + 1e-9;
                }
            );

    [Fact]
    public void Errors_of_four_roundings_are_to_the_bit_those_of_one() =>
        Gen.Select(Gen.Float[-1f, 1f].Array[1, 40], Gen.Float[1e-3f, 0.3f].Array[4], Gen.Int[0, 15].Array[4])
            .Sample(
                (some, scales, zeros) =>
                {
                    float[] weights = [.. Enumerable.Range(0, 8 * some.Length).Select(i => some[i % some.Length] * (1 - i * 1e-3f))];
                    var errors = FourRoundings.SquaredErrors(
                        weights,
                        scales,
                        [.. scales.Select(s => 1 / s)],
                        [.. zeros.Select(z => (float)-z)],
                        [.. zeros.Select(z => 15f - z)]
                    );
                    for (var k = 0; k < 4; k++)
                        Assert.Equal(Rounding.SquaredError(weights, scales[k], zeros[k], 0, 15), errors[k]);
                }
            );

    [Fact]
    public void The_search_over_clipped_ranges_finds_what_the_plain_search_finds() =>
        Gen.Select(
                Gen.Double[-3, 3].Array[1, 12],
                Gen.OneOf(new[] { 8, 16, 32, 64, 128, 200, 2048 }.Select(n => Gen.Const(n)).ToArray()),
                Gen.Int[2, 8],
                Gen.Select(Gen.Bool, Gen.Bool),
                Gen.OneOf(new[] { 1e-9, 1e-4, 0.02, 1, 3e4, 1e9 }.Select(x => Gen.Const(x)).ToArray())
            )
            .Sample(
                (some, length, bits, how, size) =>
                {
                    var random = new Random(length + bits);
                    // Heavy tails in some, values of one sign or few values in others.
                    float[] weights =
                    [
                        .. Enumerable
                            .Range(0, length)
                            .Select(_ => (float)(size * Math.Pow(random.NextDouble(), 3) * some[random.Next(some.Length)])),
                    ];
                    var (min, max) = Extremes.Of(weights);
                    BlockScale plain;
                    double error;
                    try
                    {
                        plain = BlockScale.FindInTurn(weights, min, max, bits, how.Item1, ScaleSearch.Mse, how.Item2, out error);
                    }
                    catch (HalfRangeException)
                    {
                        return false == ClippedRanges.TryFind(weights, min, max, bits, how.Item1, how.Item2, out _, out _);
                    }
                    return !ClippedRanges.TryFind(weights, min, max, bits, how.Item1, how.Item2, out var found, out var least)
                        || (found, least) == (plain, error);
                },
                iter: 20_000
            );

    [Fact]
    public void The_search_over_clipped_ranges_takes_ordinary_blocks()
    {
        float[] weights = [.. Enumerable.Range(0, 32).Select(i => MathF.Sin(i) * 0.05f)];
        var (min, max) = Extremes.Of(weights);
        Assert.True(ClippedRanges.TryFind(weights, min, max, 4, symmetric: true, half: true, out _, out _));
        Assert.True(ClippedRanges.TryFind(weights, min, max, 4, symmetric: false, half: false, out _, out _));
    }

    [Fact]
    public void Extremes_are_those_of_the_loop_and_poisoned_by_what_is_not_finite() =>
        Gen.Float[-1e6f, 1e6f]
            .Array[1, 200]
            .Sample(values =>
            {
                Assert.Equal((values.Min(), values.Max()), Extremes.Of(values));
                for (var i = 0; i < values.Length; i += 7)
                {
                    var (min, max) = Extremes.Of([.. values[..i], float.NaN, .. values[i..]]);
                    Assert.False(float.IsFinite(min) && float.IsFinite(max));
                    (min, max) = Extremes.Of([.. values[..i], float.NegativeInfinity, .. values[i..]]);
                    Assert.False(float.IsFinite(min) && float.IsFinite(max));
                }
            });

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(8)]
    public void Packing_is_undone_by_unpacking(int bits) =>
        Gen.Int[0, (1 << bits) - 1]
            .Array[0, 300]
            .Sample(values =>
            {
                var codes = values.Select(v => (byte)v).ToArray();
                var packed = new byte[BitPacking.Bytes(codes.Length, bits)];
                BitPacking.Pack(codes, bits, packed);
                var back = new byte[codes.Length];
                BitPacking.Unpack(packed, bits, back);
                return back.SequenceEqual(codes);
            });

    [Fact]
    public void Transposition_moves_every_element() =>
        Gen.Select(Gen.Int[1, 40], Gen.Int[1, 40])
            .Sample(
                (rows, columns) =>
                {
                    var source = Enumerable.Range(0, rows * columns).Select(i => (float)i).ToArray();
                    var target = new float[source.Length];
                    Transposition.Transpose(source, columns, rows, columns, target, rows);
                    for (var r = 0; r < rows; r++)
                    for (var c = 0; c < columns; c++)
                        if (target[c * rows + r] != source[r * columns + c])
                            return false;
                    return true;
                }
            );
}
