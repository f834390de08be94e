namespace Serverless.Core.Runs;

/// <summary>
/// The process that ran the model was ended from outside, twice: nothing is wrong with the input, and the run can go on from here.
/// </summary>
/// <param name="message">One sentence for the user.</param>
public sealed class ModelKilledException(string message) : Exception(message);

/// <summary>Running the model took more memory or time than it may: the run can go on from here once it is allowed more.</summary>
/// <param name="message">One sentence for the user.</param>
public sealed class ModelLimitException(string message) : BadInputException(message);
