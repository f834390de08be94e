namespace Serverless.Core;

/// <summary>
/// The user's input cannot be used. The message is one sentence that names the file, the place and the remedy;
/// hosts show it as it is and exit with 2.
/// </summary>
public sealed class BadInputException : Exception
{
    /// <summary>Creates the exception with the sentence shown to the user.</summary>
    public BadInputException(string message) : base(message) { }

    /// <summary>Creates the exception with the sentence shown to the user and what caused it.</summary>
    public BadInputException(string message, Exception inner) : base(message, inner) { }
}
