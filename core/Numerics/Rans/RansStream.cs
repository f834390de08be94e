namespace Serverless.Core.Numerics;

/// <summary>
/// Bytes coded by an interleaved range asymmetric numeral system (Duda 2009; Giesen 2014, section 2): lanes are decoded side by side, all
/// take their words from one stream. A state is below 2^31 and at least 2^15, a word has 16 bits. In the last steps no lane takes a
/// word, so that the first states need not be that large and most of their bits say something.
/// </summary>
/// <param name="Steps">Bytes of each lane.</param>
/// <param name="LastSteps">Those of them that are decoded without words; 2 are always possible, 0 where there are few lanes.</param>
/// <param name="States">The state that each lane begins to decode with.</param>
/// <param name="Words">The words, in the order in which they are taken; at least one.</param>
public sealed record RansStream(int Steps, int LastSteps, int[] States, ushort[] Words)
{
    /// <summary>The least state of a lane that may take words, 2^15.</summary>
    public const int Least = 1 << 15;

    private const int LogWord = 16,
        LogMost = 31;

    /// <summary>Codes bytes: a lane has <paramref name="steps"/> of them, one behind the other.</summary>
    /// <param name="bytes">The bytes of all lanes, one lane after another.</param>
    /// <param name="steps">Bytes of a lane; divides their number.</param>
    /// <param name="last">Those of them that are decoded without words.</param>
    /// <param name="tables">The table of each lane.</param>
    /// <param name="cancellation">Cancels the work.</param>
    /// <returns>The stream; null where the last bytes of a lane take more bits than a state has.</returns>
    public static RansStream? TryEncode(
        ReadOnlySpan<byte> bytes,
        int steps,
        int last,
        IReadOnlyList<FrequencyTable> tables,
        CancellationToken cancellation
    )
    {
        var lanes = tables.Count;
        var states = new uint[lanes];
        if (!TryBegin(bytes, steps, last, tables, states))
            return null;
        var words = new ushort[(long)bytes.Length + 1];
        var at = words.Length;
        for (var step = steps - last - 1; step >= 0; step--)
        {
            cancellation.ThrowIfCancellationRequested();
            for (var lane = lanes - 1; lane >= 0; lane--)
            {
                var (table, symbol) = (tables[lane], bytes[lane * steps + step]);
                var (state, frequency) = (states[lane], (uint)table.Frequency(symbol));
                if (state >= (ulong)frequency << (LogMost - FrequencyTable.LogTotal))
                {
                    words[--at] = (ushort)state;
                    state >>= LogWord;
                }
                states[lane] = Push(state, frequency, (uint)table.Start(symbol));
            }
        }
        return new RansStream(steps, last, Array.ConvertAll(states, s => (int)s), at < words.Length ? words[at..] : [0]);
    }

    /// <summary>Decodes: the reference for the nodes.</summary>
    /// <param name="tables">The table of each lane.</param>
    public byte[] Decode(IReadOnlyList<FrequencyTable> tables)
    {
        var bytes = new byte[(long)Steps * States.Length];
        var symbols = tables
            .Distinct()
            .ToDictionary(t => t, t => t.Symbols.SelectMany(s => Enumerable.Repeat(s, t.Frequency(s))).ToArray());
        var states = (int[])States.Clone();
        var at = 0;
        for (var step = 0; step < Steps; step++)
        for (var lane = 0; lane < states.Length; lane++)
        {
            var slot = states[lane] & (FrequencyTable.Total - 1);
            var symbol = symbols[tables[lane]][slot];
            bytes[lane * Steps + step] = symbol;
            var state = tables[lane].Frequency(symbol) * (states[lane] >> FrequencyTable.LogTotal) + slot - tables[lane].Start(symbol);
            if (step < Steps - LastSteps && state < Least)
                state = state << LogWord | Words[at++];
            states[lane] = state;
        }
        return bytes;
    }

    // The smallest states from which the last symbols, coded without a word, lead to one that may have taken words.
    private static bool TryBegin(ReadOnlySpan<byte> bytes, int steps, int last, IReadOnlyList<FrequencyTable> tables, uint[] states)
    {
        for (var lane = 0; lane < tables.Count; lane++)
        {
            var table = tables[lane];
            var symbols = bytes.Slice(lane * steps + steps - last, last);
            ulong state = last == steps ? 0u : Least;
            foreach (var symbol in symbols)
                state = Pull(state, (uint)table.Frequency(symbol), (uint)table.Start(symbol));
            for (var i = last - 1; i >= 0; i--)
                if ((state = Push(state, (uint)table.Frequency(symbols[i]), (uint)table.Start(symbols[i]))) >= 1UL << LogMost)
                    return false;
            states[lane] = (uint)state;
        }
        return true;
    }

    private static uint Push(uint state, uint frequency, uint start) => (uint)Push((ulong)state, frequency, start);

    private static ulong Push(ulong state, uint frequency, uint start) =>
        (state / frequency << FrequencyTable.LogTotal) + state % frequency + start;

    // The smallest state that Push takes to one no smaller than this.
    private static ulong Pull(ulong state, uint frequency, uint start)
    {
        var (whole, slot) = (state >> FrequencyTable.LogTotal, state & (FrequencyTable.Total - 1));
        if (slot < start)
            return whole * frequency;
        return slot < start + frequency ? whole * frequency + slot - start : (whole + 1) * frequency;
    }
}
