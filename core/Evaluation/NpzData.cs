using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Execution;

namespace Serverless.Core.Evaluation;

/// <summary>
/// Samples from a NumPy <c>.npz</c> (NumPy Enhancement Proposal 1): arrays named like the model's inputs, first axis =
/// sample, <c>labels</c> optional. Read sample by sample: memory does not grow with their number.
/// </summary>
public sealed class NpzData : IDisposable
{
    private const long LargestSample = 256L << 20;
    private const long MostChecked = 1L << 30;
    private const int LongestHeader = 4096;
    private const int MostArrays = 1024;
    private readonly Stream file;
    private readonly ZipArchive zip;
    private readonly string path;
    private readonly IReadOnlyDictionary<string, (long Offset, long Length)> stored;
    private readonly List<(InputSpec Spec, NpyArray Array)> arrays = [];
    private readonly NpyArray? labels;

    /// <summary>Opens the file and checks that it fits the inputs.</summary>
    /// <exception cref="BadInputException">It does not; names the array and the remedy.</exception>
    public NpzData(Stream stream, string path, IReadOnlyList<InputSpec> inputs)
    {
        (file, this.path) = (stream, path);
        try
        {
            zip = new ZipArchive(stream, ZipArchiveMode.Read);
            if (zip.Entries.Count > MostArrays)
                throw new BadInputException(
                    $"{path}: holds {zip.Entries.Count} arrays, more than {MostArrays}; keep only the model's inputs."
                );
            stored = StoredEntries.Of(stream, zip);
            foreach (var spec in inputs)
            {
                var array =
                    Open(spec.Name)
                    ?? throw new BadInputException(
                        $"{path}: has no array '{spec.Name}'; save one for each input of the model "
                            + $"({string.Join(", ", inputs.Select(i => i.Name))})."
                    );
                CheckType(spec, array);
                arrays.Add((spec, array));
            }
            labels = Open("labels");
        }
        catch (InvalidDataException e)
        {
            throw new BadInputException($"{path}: not a whole .npz file; save it again with numpy.savez.", e);
        }
        if (arrays.Count == 0)
            throw new BadInputException($"{path}: the model takes no inputs, so data cannot be given to it.");
        Count = arrays[0].Array.Shape[0];
        foreach (var a in arrays.Select(a => a.Array).Append(labels).OfType<NpyArray>())
            if (a.Shape[0] != Count)
                throw new BadInputException(
                    $"{path}, array '{a.Name}': {a.Shape[0]} samples where '{arrays[0].Spec.Name}' has {Count}; the "
                        + "first axis of every array is the sample."
                );
        if (Count == 0)
            throw new BadInputException($"{path}: holds no samples; the first axis of every array is the sample.");
        if (Runs == 0)
            throw new BadInputException($"{path}: holds {Count} samples where the model takes {Batch} in one run; add some.");
        if (labels is not null && ElementTypes.IsFloat(labels.Type))
            throw new BadInputException($"{path}, array 'labels': holds floats; save class numbers as integers.");
    }

    /// <summary>How errors name the file.</summary>
    public string Path => path;

    /// <summary>Number of samples.</summary>
    public long Count { get; }

    /// <summary>Runs of the model that they make.</summary>
    public long Runs => Count / Batch;

    // A model with a fixed first dimension takes that many samples a run.
    private long Batch => arrays.Max(a => a.Spec.Dims is { } d && d.Length == a.Array.Shape.Length && d.Length > 0 ? d[0] ?? 1 : 1);

    /// <summary>Whether an array is compressed, so that a sample is reached by unpacking those before it.</summary>
    public bool Compressed => arrays.Select(a => a.Array).Append(labels).OfType<NpyArray>().Any(a => !stored.ContainsKey(a.Entry));

    /// <summary>Reads the first samples, for what is wrong with them: before work is done that they would stop.</summary>
    /// <exception cref="BadInputException">An array ends early, or holds NaN or infinity.</exception>
    public void Check(CancellationToken cancellation)
    {
        long read = 0;
        foreach (var sample in Read(0, cancellation))
        {
            cancellation.ThrowIfCancellationRequested();
            if ((read += sample.Inputs.Values.Sum(v => (long)v.Bytes.Length)) > MostChecked)
                break;
        }
    }

    /// <summary>The samples, in order; each call reads on its own.</summary>
    /// <param name="first">
    /// Runs to leave out. What is not compressed is read from there on; of what is, the samples before are unpacked through
    /// one buffer, and neither kept nor converted.
    /// </param>
    /// <param name="cancellation">Cancels unpacking what is left out.</param>
    /// <exception cref="BadInputException">An array ends early, or has no batch axis where others have one.</exception>
    public IEnumerable<Sample> Read(long first = 0, CancellationToken cancellation = default)
    {
        var batch = Batch;
        var streams = new Dictionary<NpyArray, Stream>(ReferenceEqualityComparer.Instance);
        try
        {
            for (var at = first * batch; at + batch <= Count; at += batch)
            {
                var inputs = new Dictionary<string, TensorValue>(StringComparer.Ordinal);
                foreach (var (spec, array) in arrays)
                {
                    var batched = spec.Dims is null || spec.Dims.Length == array.Shape.Length;
                    if (!batched && batch != 1)
                        throw new BadInputException(
                            $"{path}, array '{array.Name}': has no batch axis while other inputs take {batch} samples a run; add one."
                        );
                    var shape = batched ? [batch, .. array.Shape[1..]] : array.Shape[1..];
                    inputs[spec.Name] = array.Next(From(array, at), path, at, batch, spec.Type, shape);
                }
                long[]? right = null;
                if (labels is not null)
                {
                    var t = labels.Next(From(labels, at), path, at, batch, TensorElementType.Int64, [batch, .. labels.Shape[1..]]);
                    right = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(t.Bytes).ToArray();
                }
                yield return new Sample(inputs, right);
            }
        }
        finally
        {
            foreach (var s in streams.Values)
                s.Dispose();
        }

        Stream From(NpyArray array, long at)
        {
            if (streams.TryGetValue(array, out var open))
                return open;
            var skip = (long)Int128.Min((Int128)at * array.SampleBytes + array.Start, long.MaxValue);
            if (stored.TryGetValue(array.Entry, out var place))
                return streams[array] = new FileRange(file, place.Offset + Math.Min(skip, place.Length), place.Offset + place.Length);
            var stream = streams[array] = zip.GetEntry(array.Entry)!.Open();
            array.Skip(stream, skip, path, cancellation);
            return stream;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => zip.Dispose();

    private void CheckType(InputSpec spec, NpyArray array)
    {
        if (ElementTypes.Size(spec.Type) == 0)
        {
            throw new BadInputException(
                $"{path}, array '{spec.Name}': the model takes {spec.Type}, which cannot be read here; "
                    + "leave the file out, and the model is published without a comparison."
            );
        }
        var fits = ElementTypes.IsFloat(array.Type) == ElementTypes.IsFloat(spec.Type);
        if (!fits)
            throw new BadInputException(
                $"{path}, array '{spec.Name}': holds {array.Type} where the model takes {spec.Type}; convert it before saving."
            );
        if (spec.Dims is null)
            return;
        var extra = array.Shape.Length - spec.Dims.Length;
        var dims = extra == 1 ? spec.Dims : spec.Dims.Skip(1).ToArray();
        var agrees = extra is 0 or 1 && array.Shape.Skip(1).Zip(dims).All(p => p.Second is null || p.First == p.Second);
        if (!agrees)
            throw new BadInputException(
                $"{path}, array '{spec.Name}': has shape [{string.Join(',', array.Shape)}] where the model takes "
                    + $"[{string.Join(',', spec.Dims.Select(d => d?.ToString(CultureInfo.InvariantCulture) ?? "?"))}] "
                    + "a run; put the samples along the first axis."
            );
    }

    private NpyArray? Open(string name)
    {
        if (zip.GetEntry(name + ".npy") is not { } entry)
            return null;
        using var stream = entry.Open();
        Span<byte> start = stackalloc byte[12];
        try
        {
            stream.ReadExactly(start[..10]);
            if (start[0] != 0x93 || !start[1..6].SequenceEqual("NUMPY"u8))
                throw Bad("is not in NumPy's format");
            var length = (int)BinaryPrimitives.ReadUInt16LittleEndian(start[8..]);
            if (start[6] >= 2)
            {
                stream.ReadExactly(start[10..12]);
                length = BinaryPrimitives.ReadInt32LittleEndian(start[8..]);
            }
            if (length is <= 0 or > LongestHeader)
                throw Bad("has an impossible header");
            var header = new byte[length];
            stream.ReadExactly(header);
            var array =
                NpyArray.Parse(name, Encoding.Latin1.GetString(header), (start[6] >= 2 ? 12 : 10) + length)
                ?? throw Bad("has a header that is not understood; use plain numeric arrays in C order");
            if (array.Shape.Length == 0)
                throw Bad("is a scalar; its first axis must be the sample");
            var each = Model.TensorRef.Count(array.Shape[1..]);
            if (each is null || each > LargestSample / 8)
                throw Bad($"has samples of more than {LargestSample >> 20} MB");
            return array;
        }
        catch (EndOfStreamException)
        {
            throw Bad("ends early");
        }

        BadInputException Bad(string what) => new($"{path}, array '{name}': {what}; save it again with numpy.savez.");
    }
}
