using Serverless.Core.Numerics;

namespace Serverless.Core.Forms;

/// <summary>Some bytes of a stream that stand for a part of a constant.</summary>
/// <param name="Constant">Index of the constant; −1 for bytes that fill the last lane of a table.</param>
/// <param name="Offset">Where they begin in the constant.</param>
/// <param name="Bytes">How many.</param>
internal readonly record struct CodedPiece(int Constant, int Offset, int Bytes);

/// <summary>One stream for the coded constants of a model.</summary>
/// <param name="Stream">The stream.</param>
/// <param name="Tables">Tables, in the order of their lanes.</param>
/// <param name="Lanes">Lanes of each table.</param>
/// <param name="Pieces">What the bytes of all lanes stand for, one lane after another.</param>
internal sealed record CodedStream(
    RansStream Stream,
    IReadOnlyList<FrequencyTable> Tables,
    IReadOnlyList<int> Lanes,
    IReadOnlyList<CodedPiece> Pieces
);
