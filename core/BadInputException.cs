namespace Serverless.Core;

/// <summary>
/// The user's input cannot be used. The message is one sentence that names the file, the place and the remedy;
/// hosts show it as it is and exit with 2.
/// </summary>
public class BadInputException : Exception
{
    private const int Longest = 560;

    /// <summary>Creates the exception with the sentence shown to the user.</summary>
    public BadInputException(string message)
        : base(Shown(message)) { }

    /// <summary>Creates the exception with the sentence shown to the user and what caused it.</summary>
    public BadInputException(string message, Exception inner)
        : base(Shown(message), inner) { }

    // Names out of a hostile model must neither break the line nor drive a terminal, nor drown the remedy at the end.
    private static string Shown(string message) => Printable.Shorten(Printable.Line(message), Longest);
}
