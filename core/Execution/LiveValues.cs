using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>
/// Values of many samples that later parts of a model take. Up to a limit they stay in memory; the rest lie in one temporary
/// file, whose places are used again, so that neither grows with the length of the model.
/// </summary>
/// <param name="memoryLimit">Bytes held in memory.</param>
/// <param name="fileLimit">Largest size of the file, in bytes.</param>
internal sealed class LiveValues(long memoryLimit = LiveValues.MemoryLimit, long fileLimit = LiveValues.FileLimit) : IDisposable
{
    /// <summary>Bytes held in memory by default.</summary>
    public const long MemoryLimit = 128L << 20;

    /// <summary>Largest file by default, in bytes.</summary>
    public const long FileLimit = 8L << 30;

    private const long Page = 4096;
    private readonly Dictionary<(int Sample, string Name), Held> held = [];
    private readonly Dictionary<string, ValueInfoProto> infos = new(StringComparer.Ordinal);
    private readonly Dictionary<long, Stack<long>> free = [];
    private readonly HashSet<string> others = new(StringComparer.Ordinal);
    private FileStream? file;
    private long inMemory,
        end;

    /// <summary>Whether a value of that name was kept that is no tensor, which cannot be an input of a part.</summary>
    public bool IsOther(string name) => others.Contains(name);

    /// <summary>Element type of a value.</summary>
    /// <exception cref="BadInputException">It is no tensor.</exception>
    public int Type(string name) => Info(name).Type.TensorType.ElemType;

    /// <summary>A value as an input of a part; dimensions that differ between samples are left open.</summary>
    /// <exception cref="BadInputException">It is no tensor.</exception>
    public ValueInfoProto Info(string name) =>
        infos.GetValueOrDefault(name)
        ?? throw new BadInputException(
            $"the model: the value '{name}', between two of its parts, is not a tensor; such models are too large to be run here."
        );

    /// <summary>Keeps a value, which it owns from here on.</summary>
    /// <exception cref="LiveLimitException">The file would be larger than its limit.</exception>
    public void Keep(int sample, string name, OrtValue value)
    {
        Note(name, value);
        if (!value.IsTensor || value.GetTensorTypeAndShape() is var info && info.ElementDataType == TensorElementType.String)
        {
            held[(sample, name)] = new Held(value, 0, 0, null);
            return;
        }
        var bytes = value.GetTensorMutableRawData();
        if (inMemory + bytes.Length <= memoryLimit)
        {
            inMemory += bytes.Length;
            held[(sample, name)] = new Held(value, bytes.Length, 0, null);
            return;
        }
        using (value)
        {
            var at = Place(bytes.Length);
            RandomAccess.Write(file!.SafeFileHandle, bytes, at);
            held[(sample, name)] = new Held(null, bytes.Length, at, info);
        }
    }

    /// <summary>Lends a value for one run.</summary>
    /// <param name="sample">The sample.</param>
    /// <param name="name">The value.</param>
    /// <param name="last">Whether nothing needs it afterwards: it is forgotten here.</param>
    public Lent Lend(int sample, string name, bool last)
    {
        var value = held[(sample, name)];
        if (last)
            Forget(sample, name, value);
        if (value.Value is { } inMemoryValue)
            return new Lent(inMemoryValue, last);
        var tensor = value.Info!.Value;
        var copy = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, tensor.ElementDataType, tensor.Shape);
        var bytes = copy.GetTensorMutableRawData();
        for (var done = 0; done < bytes.Length; )
        {
            var read = RandomAccess.Read(file!.SafeFileHandle, bytes[done..], value.Offset + done);
            if (read == 0)
                throw new EndOfStreamException($"The temporary file of the value '{name}' ends early.");
            done += read;
        }
        return new Lent(copy, true);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var v in held.Values)
            v.Value?.Dispose();
        file?.Dispose();
    }

    private void Forget(int sample, string name, Held value)
    {
        held.Remove((sample, name));
        if (value.Value is not null)
            inMemory -= value.Bytes;
        else
            free[Rounded(value.Bytes)].Push(value.Offset);
    }

    private long Place(long bytes)
    {
        var size = Rounded(bytes);
        if (!free.TryGetValue(size, out var places))
            free[size] = places = [];
        if (places.TryPop(out var at))
            return at;
        if (end + size > fileLimit)
            throw new LiveLimitException(fileLimit);
        // Its name goes at once, so that a killed process leaves nothing behind.
        if (file is null)
        {
            var path = Path.GetTempFileName();
            file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Delete, 0, FileOptions.DeleteOnClose);
            File.Delete(path);
        }
        (at, end) = (end, end + size);
        return at;
    }

    private void Note(string name, OrtValue value)
    {
        if (!value.IsTensor)
        {
            others.Add(name);
            return;
        }
        var tensor = value.GetTensorTypeAndShape();
        if (!infos.TryGetValue(name, out var known))
        {
            var dims = new TensorShapeProto();
            foreach (var d in tensor.Shape)
                dims.Dim.Add(new TensorShapeProto.Types.Dimension { DimValue = d });
            infos[name] = ModelRunner.Input(name, (int)tensor.ElementDataType);
            infos[name].Type.TensorType.Shape = dims;
            return;
        }
        var shape = known.Type.TensorType.Shape;
        if (shape is null)
            return;
        if (shape.Dim.Count != tensor.Shape.Length)
        {
            known.Type.TensorType.Shape = null;
            return;
        }
        for (var i = 0; i < shape.Dim.Count; i++)
            if (shape.Dim[i].DimValue != tensor.Shape[i])
                shape.Dim[i].ClearValue();
    }

    private static long Rounded(long bytes) => (Math.Max(bytes, 1) + Page - 1) / Page * Page;

    private sealed record Held(OrtValue? Value, long Bytes, long Offset, OrtTensorTypeAndShapeInfo? Info);
}

/// <summary>A value lent for one run.</summary>
/// <param name="Value">The value.</param>
/// <param name="Own">Whether whoever took it disposes it.</param>
internal readonly record struct Lent(OrtValue Value, bool Own);

/// <summary>The values between parts of a model take more than may lie in a file.</summary>
internal sealed class LiveLimitException(long limit)
    : Exception($"The values between the parts of the model take more than {limit >> 20} MB.");
