using System.Runtime.InteropServices;

namespace Serverless.Core.Execution;

/// <summary>The name of this machine's processor.</summary>
internal static class ProcessorName
{
    private const string Cpuinfo = "/proc/cpuinfo";

    /// <summary>As the system tells it; its architecture where it does not.</summary>
    public static string Find()
    {
        if (OperatingSystem.IsLinux() && File.Exists(Cpuinfo))
        {
            var line = File.ReadLines(Cpuinfo).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
            if (line is not null)
                return line[(line.IndexOf(':') + 1)..].Trim();
        }
        return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
