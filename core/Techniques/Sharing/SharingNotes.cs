namespace Serverless.Core.Techniques.Sharing;

/// <summary>What reports say of layers that share.</summary>
/// <param name="Blocks">Blocks that gave up matrices of their own.</param>
/// <param name="Candidates">Blocks that others are like.</param>
/// <param name="Parameters">Weights that are stored no more.</param>
/// <param name="ParametersShare">Their share of the model's weights.</param>
/// <param name="Samples">Samples that were tried on; 0 where none were.</param>
/// <param name="Reason">Why there are fewer than asked for, or null.</param>
public sealed record LayersShared(int Blocks, int Candidates, long Parameters, double ParametersShare, int Samples, string? Reason);

/// <summary>Blocks that share their matrices, as reports have them.</summary>
/// <param name="Kind">What they do, or how their input is found in their output.</param>
/// <param name="Outputs">Their outputs.</param>
/// <param name="Matrices">Names of the matrices that stand for all of theirs.</param>
/// <param name="Distance">Relative distance of their matrices to the shared ones, differences not counted.</param>
/// <param name="Unaligned">The same with the units in the order that the model had them.</param>
public sealed record SharedBlocks(
    string Kind,
    IReadOnlyList<string> Outputs,
    IReadOnlyList<string> Matrices,
    double Distance,
    double Unaligned
);

/// <summary>What a number of blocks that share makes of the outputs.</summary>
/// <param name="Blocks">Blocks that gave up matrices of their own.</param>
/// <param name="RelativeError">‖a − b‖ / ‖a‖ of the outputs.</param>
/// <param name="Cosine">Their cosine.</param>
/// <param name="Lost">What a budget of accuracy is about.</param>
/// <param name="ParametersShare">Share of the model's weights that is stored no more.</param>
/// <param name="To">Output of the block that was joined last.</param>
public sealed record SharingPoint(int Blocks, double RelativeError, double? Cosine, double? Lost, double ParametersShare, string To);
