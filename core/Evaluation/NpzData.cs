using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Samples from a NumPy <c>.npz</c> (NumPy Enhancement Proposal 1): arrays named like the model's inputs, first axis =
/// sample, <c>labels</c> optional. Read sample by sample: memory does not grow with their number.
/// </summary>
public sealed class NpzData : IDisposable
{
    private const long LargestSample = 256L << 20;
    private const int LongestHeader = 4096;
    private const int MostArrays = 1024;
    private readonly ZipArchive zip;
    private readonly string path;
    private readonly List<(InputSpec Spec, NpyArray Array)> arrays = [];
    private readonly NpyArray? labels;

    /// <summary>Opens the file and checks that it fits the inputs.</summary>
    /// <exception cref="BadInputException">It does not; names the array and the remedy.</exception>
    public NpzData(Stream stream, string path, IReadOnlyList<InputSpec> inputs)
    {
        this.path = path;
        try
        {
            zip = new ZipArchive(stream, ZipArchiveMode.Read);
            if (zip.Entries.Count > MostArrays) throw new BadInputException($"{path}: holds {zip.Entries.Count} arrays, more than {MostArrays}; keep only the model's inputs.");
            foreach (var spec in inputs)
            {
                var array = Open(spec.Name) ?? throw new BadInputException($"{path}: has no array '{spec.Name}'; save one for each input of the model ({string.Join(", ", inputs.Select(i => i.Name))}).");
                CheckType(spec, array);
                arrays.Add((spec, array));
            }
            labels = Open("labels");
        }
        catch (InvalidDataException e)
        {
            throw new BadInputException($"{path}: not a whole .npz file; save it again with numpy.savez.", e);
        }
        if (arrays.Count == 0) throw new BadInputException($"{path}: the model takes no inputs, so data cannot be given to it.");
        Count = arrays[0].Array.Shape[0];
        foreach (var a in arrays.Select(a => a.Array).Append(labels).OfType<NpyArray>())
            if (a.Shape[0] != Count) throw new BadInputException($"{path}, array '{a.Name}': {a.Shape[0]} samples where '{arrays[0].Spec.Name}' has {Count}; the first axis of every array is the sample.");
        if (Count == 0) throw new BadInputException($"{path}: holds no samples; the first axis of every array is the sample.");
        if (labels is not null && ElementTypes.IsFloat(labels.Type)) throw new BadInputException($"{path}, array 'labels': holds floats; save class numbers as integers.");
    }

    /// <summary>Number of samples.</summary>
    public long Count { get; }

    /// <summary>Runs of the model that they make.</summary>
    public long Runs => Count / Batch;

    // A model with a fixed first dimension takes that many samples a run.
    private long Batch => arrays.Max(a => a.Spec.Dims is { } d && d.Length == a.Array.Shape.Length && d.Length > 0 ? d[0] ?? 1 : 1);

    /// <summary>The samples, in order.</summary>
    public IEnumerable<Sample> Read()
    {
        var batch = Batch;
        for (long at = 0; at + batch <= Count; at += batch)
        {
            var inputs = new Dictionary<string, TensorValue>(StringComparer.Ordinal);
            foreach (var (spec, array) in arrays)
            {
                var batched = spec.Dims is null || spec.Dims.Length == array.Shape.Length;
                if (!batched && batch != 1) throw new BadInputException($"{path}, array '{array.Name}': has no batch axis while other inputs take {batch} samples a run; add one.");
                var shape = batched ? [batch, .. array.Shape[1..]] : array.Shape[1..];
                inputs[spec.Name] = array.Next(path, batch, spec.Type, shape);
            }
            long[]? right = null;
            if (labels is not null)
            {
                var t = labels.Next(path, batch, TensorElementType.Int64, [batch, .. labels.Shape[1..]]);
                right = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(t.Bytes).ToArray();
            }
            yield return new Sample(inputs, right);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (_, array) in arrays) array.Stream.Dispose();
        labels?.Stream.Dispose();
        zip.Dispose();
    }

    private void CheckType(InputSpec spec, NpyArray array)
    {
        if (ElementTypes.Size(spec.Type) == 0) throw new BadInputException($"{path}, array '{spec.Name}': the model takes {spec.Type}, which cannot be given as data here.");
        var fits = ElementTypes.IsFloat(array.Type) == ElementTypes.IsFloat(spec.Type);
        if (!fits) throw new BadInputException($"{path}, array '{spec.Name}': holds {array.Type} where the model takes {spec.Type}; convert it before saving.");
        if (spec.Dims is null) return;
        var extra = array.Shape.Length - spec.Dims.Length;
        var dims = extra == 1 ? spec.Dims : spec.Dims.Skip(1).ToArray();
        var agrees = extra is 0 or 1 && array.Shape.Skip(1).Zip(dims).All(p => p.Second is null || p.First == p.Second);
        if (!agrees)
            throw new BadInputException($"{path}, array '{spec.Name}': has shape [{string.Join(',', array.Shape)}] where the model takes [{string.Join(',', spec.Dims.Select(d => d?.ToString(CultureInfo.InvariantCulture) ?? "?"))}] a run; put the samples along the first axis.");
    }

    private NpyArray? Open(string name)
    {
        if (zip.GetEntry(name + ".npy") is not { } entry) return null;
        var stream = entry.Open();
        Span<byte> start = stackalloc byte[12];
        try
        {
            stream.ReadExactly(start[..10]);
            if (start[0] != 0x93 || !start[1..6].SequenceEqual("NUMPY"u8)) throw Bad("is not in NumPy's format");
            var length = (int)BinaryPrimitives.ReadUInt16LittleEndian(start[8..]);
            if (start[6] >= 2)
            {
                stream.ReadExactly(start[10..12]);
                length = BinaryPrimitives.ReadInt32LittleEndian(start[8..]);
            }
            if (length is <= 0 or > LongestHeader) throw Bad("has an impossible header");
            var header = new byte[length];
            stream.ReadExactly(header);
            var array = NpyArray.Parse(name, Encoding.Latin1.GetString(header), stream) ?? throw Bad("has a header that is not understood; use plain numeric arrays in C order");
            if (array.Shape.Length == 0) throw Bad("is a scalar; its first axis must be the sample");
            var each = Onnx.TensorRef.Count(array.Shape[1..]);
            if (each is null || each > LargestSample / 8) throw Bad($"has samples of more than {LargestSample >> 20} MB");
            return array;
        }
        catch (EndOfStreamException)
        {
            throw Bad("ends early");
        }

        BadInputException Bad(string what) => new($"{path}, array '{name}': {what}; save it again with numpy.savez.");
    }

    private sealed record NpyArray(string Name, TensorElementType Type, long[] Shape, Stream Stream)
    {
        public static NpyArray? Parse(string name, string header, Stream stream)
        {
            if (Field(header, "'descr':") is not { } descr || Field(header, "'fortran_order':") is not { } order || !order.StartsWith("False", StringComparison.Ordinal)) return null;
            TensorElementType? type = descr.Trim('\'', ' ') switch
            {
                "<f4" => TensorElementType.Float,
                "<f8" => TensorElementType.Double,
                "<f2" => TensorElementType.Float16,
                "<i8" => TensorElementType.Int64,
                "<i4" => TensorElementType.Int32,
                "<i2" => TensorElementType.Int16,
                "|i1" => TensorElementType.Int8,
                "|u1" => TensorElementType.UInt8,
                "<u2" => TensorElementType.UInt16,
                "<u4" => TensorElementType.UInt32,
                "<u8" => TensorElementType.UInt64,
                "|b1" => TensorElementType.Bool,
                _ => null,
            };
            var open = header.IndexOf("'shape':", StringComparison.Ordinal);
            var (left, right) = (header.IndexOf('(', Math.Max(open, 0)), header.IndexOf(')', Math.Max(open, 0)));
            if (type is null || open < 0 || left < 0 || right < left) return null;
            var dims = new List<long>();
            foreach (var part in header[(left + 1)..right].Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
            {
                if (!long.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var d)) return null;
                dims.Add(d);
            }
            return new NpyArray(name, type.Value, [.. dims], stream);
        }

        public TensorValue Next(string path, long batch, TensorElementType type, long[] shape)
        {
            var count = checked((int)(batch * Shape[1..].Aggregate(1L, (a, b) => a * b)));
            var raw = new byte[count * ElementTypes.Size(Type)];
            try
            {
                Stream.ReadExactly(raw);
            }
            catch (Exception e) when (e is EndOfStreamException or InvalidDataException)
            {
                throw new BadInputException($"{path}, array '{Name}': holds less data than its shape [{string.Join(',', Shape)}] says; save it again with numpy.savez.", e);
            }
            if (type == Type) return new TensorValue(type, shape, raw);
            var converted = new byte[count * ElementTypes.Size(type)];
            for (var i = 0; i < count; i++) ElementTypes.Set(converted, type, i, ElementTypes.Get(raw, Type, i));
            return new TensorValue(type, shape, converted);
        }

        private static string? Field(string header, string key)
        {
            var at = header.IndexOf(key, StringComparison.Ordinal);
            if (at < 0) return null;
            var end = header.IndexOf(',', at);
            return end < 0 ? null : header[(at + key.Length)..end].Trim();
        }
    }
}
