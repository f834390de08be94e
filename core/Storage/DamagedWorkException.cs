namespace Serverless.Core.Storage;

/// <summary>An object of a run's work is missing, cut short or altered: the run makes it again.</summary>
/// <param name="message">Names the object and says what is wrong with it.</param>
public sealed class DamagedWorkException(string message) : Exception(message);
