using System.CommandLine;

namespace Serverless.Local;

/// <summary><c>--verbose</c>.</summary>
internal static class Verbose
{
    public static Option<bool> Option() => new("--verbose") { Description = "Print a line for each layer on standard error." };
}
