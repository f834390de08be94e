using Serverless.Core.Storage;

namespace Serverless.Core.Statistics;

/// <summary>Statistics of many observations in one object, one behind the other, with a list of them at the end.</summary>
public sealed class StatisticsSet : IAsyncDisposable
{
    private readonly ArtifactReader reader;
    private readonly Dictionary<(int Observation, int View), Place> places;

    private StatisticsSet(ArtifactReader reader, IEnumerable<Place> places) =>
        (this.reader, this.places) = (reader, places.ToDictionary(p => (p.Observation, p.View)));

    /// <summary>Writes a set.</summary>
    /// <param name="store">The store.</param>
    /// <param name="path">Where it goes.</param>
    /// <param name="write">Writes statistics, each with <see cref="Writer.AddAsync"/>.</param>
    /// <param name="cancellation">Cancels the writing.</param>
    public static Task WriteAsync(
        IArtifactStore store,
        string path,
        Func<Writer, CancellationToken, Task> write,
        CancellationToken cancellation
    ) =>
        store.WriteAsync(
            path,
            async (stream, token) =>
            {
                var writer = new Writer(stream);
                await write(writer, token);
                await writer.EndAsync(token);
            },
            cancellation
        );

    /// <summary>Opens a set.</summary>
    /// <exception cref="DamagedWorkException">It is none.</exception>
    public static async Task<StatisticsSet> OpenAsync(IArtifactStore store, string path, CancellationToken cancellation)
    {
        var reader = await store.OpenAsync(path, null, cancellation);
        try
        {
            return new StatisticsSet(reader, (await TrailingRecord.ReadAsync<Contents>(reader, cancellation)).Places);
        }
        catch
        {
            await reader.DisposeAsync();
            throw;
        }
    }

    /// <summary>Opens the statistics of one view of an observation alone.</summary>
    /// <exception cref="DamagedWorkException">They are not there.</exception>
    public static async Task<ArtifactReader> OpenAsync(
        IArtifactStore store,
        string path,
        int observation,
        int view,
        CancellationToken cancellation
    )
    {
        var set = await OpenAsync(store, path, cancellation);
        try
        {
            return set.Of(observation, view, owns: true);
        }
        catch
        {
            await set.DisposeAsync();
            throw;
        }
    }

    /// <summary>The statistics of a view of an observation, to be read while this is open.</summary>
    /// <exception cref="DamagedWorkException">They are not there.</exception>
    public ArtifactReader Of(int observation, int view = 0) => Of(observation, view, owns: false);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => reader.DisposeAsync();

    private ArtifactRange Of(int observation, int view, bool owns) =>
        places.TryGetValue((observation, view), out var place)
            ? new ArtifactRange(reader, place.Offset, place.Length, owns)
            : throw new DamagedWorkException($"{reader.Artifact.Path}: the statistics of observation {observation} are missing.");

    private sealed record Place(int Observation, int View, long Offset, long Length);

    private sealed record Contents(IReadOnlyList<Place> Places);

    /// <summary>Writes statistics one behind the other.</summary>
    public sealed class Writer
    {
        private readonly Stream stream;
        private readonly List<Place> places = [];

        internal Writer(Stream stream) => this.stream = stream;

        /// <summary>Adds statistics of a view of an observation.</summary>
        public async Task AddAsync(int observation, int view, Func<Stream, Task> write)
        {
            var start = stream.Position;
            await write(stream);
            places.Add(new Place(observation, view, start, stream.Position - start));
        }

        internal Task EndAsync(CancellationToken cancellation) => TrailingRecord.WriteAsync(stream, new Contents(places), cancellation);
    }
}
