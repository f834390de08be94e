using Google.Protobuf;
using Serverless.Core.Model;
using Serverless.Core.Model.Schema;
using Serverless.Core.Numerics;

namespace Serverless.Core.Techniques.Pruning.Structured;

/// <summary>A model with its groups of coupled channels and its linear layers; constants go by their place in the model.</summary>
internal sealed class PrunableModel
{
    private readonly Func<int, CancellationToken, Task<ReadOnlyMemory<byte>>> read;
    private readonly List<TensorProto> constants;
    private readonly Dictionary<TensorProto, int> places;
    private readonly Lazy<IReadOnlyList<LinearLayer>> layers;

    /// <summary>Looks at a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="read">Reads one of its constants.</param>
    public PrunableModel(ModelProto model, Func<TensorProto, CancellationToken, Task<ReadOnlyMemory<byte>>> read)
        : this(model) => this.read = (place, cancellation) => read(constants[place], cancellation);

    private PrunableModel(ModelProto model, Func<int, CancellationToken, Task<ReadOnlyMemory<byte>>> read)
        : this(model) => this.read = read;

    private PrunableModel(ModelProto model)
    {
        (Model, read) = (model, (_, _) => throw new InvalidOperationException("Nothing reads constants yet."));
        Facts = new GraphFacts(model);
        constants = [.. ModelIndex.Tensors(model).Select(t => t.Tensor)];
        places = new Dictionary<TensorProto, int>(ReferenceEqualityComparer.Instance);
        for (var i = 0; i < constants.Count; i++)
            places[constants[i]] = i;
        layers = new Lazy<IReadOnlyList<LinearLayer>>(() => LinearLayer.Of(model, Facts, places));
    }

    /// <summary>The model.</summary>
    public ModelProto Model { get; }

    /// <summary>Its facts.</summary>
    public GraphFacts Facts { get; }

    /// <summary>Its groups, in the order of the file.</summary>
    public IReadOnlyList<ChannelGroup> Groups => Facts.Groups.All;

    /// <summary>Its linear layers.</summary>
    public IReadOnlyList<LinearLayer> Layers => layers.Value;

    /// <summary>Another copy of the model, whose constants have the same places and values, wherever they lie.</summary>
    public PrunableModel As(ModelProto copy) => new(copy, read);

    /// <summary>The place of a constant.</summary>
    public int PlaceOf(TensorProto constant) => places[constant];

    /// <summary>A constant's dimensions.</summary>
    public IReadOnlyList<long> Dims(int place) => constants[place].Dims;

    /// <summary>How long an axis of a constant is when some units of each group are removed.</summary>
    public long Length(int place, int axis, Func<ChannelGroup, int> removed) => Facts.Groups.Length(constants[place], axis, removed);

    /// <summary>Reads a constant of floats.</summary>
    public async Task<float[]> ReadAsync(int place, CancellationToken cancellation)
    {
        var bytes = await read(place, cancellation);
        var floats = new float[bytes.Length / (DataTypes.Bits(constants[place].DataType) / 8)];
        FloatConversion.ToFloat(bytes.Span, constants[place].DataType, floats);
        return floats;
    }

    /// <summary>The model without some units; what changes is inline in it.</summary>
    /// <param name="removed">Units that go, by the number of their group.</param>
    /// <param name="values">Constants that take other values, before they are cut, by place.</param>
    /// <param name="inline">Constants that are to lie in the model, changed or not.</param>
    /// <param name="cancellation">Cancels the reading.</param>
    public async Task<CutModel> CutAsync(
        IReadOnlyDictionary<int, IReadOnlyList<int>> removed,
        IReadOnlyDictionary<int, float[]> values,
        IEnumerable<int> inline,
        CancellationToken cancellation
    )
    {
        var copy = As(Model.Clone());
        var units = removed.Where(r => r.Value.Count > 0).ToDictionary(r => copy.Groups[r.Key], r => r.Value);
        var cuts = UnitRemoval.Apply(copy.Model, copy.Facts, units).ToLookup(c => copy.PlaceOf(c.Tensor));
        foreach (var place in cuts.Select(c => c.Key).Union(values.Keys).Union(inline))
        {
            var tensor = copy.constants[place];
            var type = tensor.DataType;
            var bytes = values.TryGetValue(place, out var other) ? FloatConversion.FromFloat(other, type) : await read(place, cancellation);
            var dims = tensor.Dims.ToArray();
            Put(tensor, UnitRemoval.Cut(bytes.Span, dims, DataTypes.Bits(type) / 8, cuts[place]), dims);
        }
        return new CutModel(copy.Model, copy.constants, cuts);
    }

    /// <summary>Gives a constant other bytes, inline.</summary>
    public static void Put(TensorProto tensor, byte[] bytes, IReadOnlyList<long> dims)
    {
        var (name, type) = (tensor.Name, tensor.DataType);
        var fresh = new TensorProto
        {
            Name = name,
            DataType = type,
            RawData = ByteString.CopyFrom(bytes),
        };
        fresh.Dims.AddRange(dims);
        tensor.ExternalData.Clear();
        tensor.ClearDataLocation();
        tensor.FloatData.Clear();
        tensor.DoubleData.Clear();
        tensor.Int32Data.Clear();
        tensor.Int64Data.Clear();
        tensor.Dims.Clear();
        tensor.MergeFrom(fresh);
    }
}

/// <summary>A model without some units.</summary>
/// <param name="Model">The model.</param>
/// <param name="Constants">Its constants, by their place in the model that it was cut from.</param>
/// <param name="Cuts">What stays of each axis that was cut, by the constant's place.</param>
internal sealed record CutModel(ModelProto Model, IReadOnlyList<TensorProto> Constants, ILookup<int, AxisCut> Cuts)
{
    /// <summary>The indices of an axis of a constant that stay.</summary>
    /// <param name="place">The constant's place.</param>
    /// <param name="axis">The axis.</param>
    /// <param name="length">How long it was.</param>
    public IReadOnlyList<int> Kept(int place, int axis, int length) =>
        Cuts[place].FirstOrDefault(c => c.Axis == axis)?.Kept ?? [.. Enumerable.Range(0, length)];

    /// <summary>Gives a constant that is cut other floats.</summary>
    public void Put(int place, float[] values) =>
        PrunableModel.Put(Constants[place], FloatConversion.FromFloat(values, Constants[place].DataType), [.. Constants[place].Dims]);
}
