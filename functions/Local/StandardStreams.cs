using System.Globalization;
using System.Runtime.InteropServices;
using Serverless.Core;

namespace Serverless.Local;

/// <summary>
/// Standard output and error that never end the process: what cannot be written there (closed, a full disk, a reader
/// that left) is lost, and lost output is told of on standard error once the work is done.
/// </summary>
internal static partial class StandardStreams
{
    private const string Reopened = "SERVERLESS_STREAMS_OPEN";
    private const int GetDescriptorFlags = 1,
        CloseOnExec = 1,
        OpenReadWrite = 2,
        FileSizeSignal = 25,
        PollOut = 4,
        PollError = 0x18,
        BrokenPipe = 32;
    private static string? lost;
    private static bool readerLeft;

    /// <summary>Must come first in the process.</summary>
    public static void Guard()
    {
        var closed = Environment.GetEnvironmentVariable(Reopened);
        // Not for the processes that this one starts.
        Environment.SetEnvironmentVariable(Reopened, null);
        if (OperatingSystem.IsLinux())
        {
            // Past a limit of file sizes (ulimit -f) a write fails, like on a full disk; unasked, it would kill.
            _ = Signal(FileSizeSignal, 1);
            if (closed is null)
                ReplaceClosed();
        }
        Console.SetError(new ForgivingWriter(Console.Error, _ => { }));
        var output = closed?.Contains('1') == true ? Closed() : Console.Out;
        Console.SetOut(new ForgivingWriter(output, e => Lost(Why(e), e.HResult == BrokenPipe)));
    }

    /// <summary>Says once, on standard error, that output was lost, and where else to look.</summary>
    /// <param name="remedy">What is known, as the end of a sentence.</param>
    public static void TellIfLost(string remedy)
    {
        if (!IsLost())
            return;
        Console.Error.WriteLine($"Standard output could not be written ({lost}); {Printable.Line(remedy)}.");
        lost = null;
    }

    /// <summary>The exit code of a command; where its output was lost and nothing else came of it, it failed.</summary>
    public static int Close(int exitCode)
    {
        if (!IsLost() || readerLeft || exitCode is not ExitCode.Done)
            return exitCode;
        TellIfLost("free some space, or give another place for it");
        return ExitCode.Failed;
    }

    private static string Why(Exception e) => e is ObjectDisposedException ? "it is closed" : e.Message.Split(" : ")[0].TrimEnd('.');

    private static StringWriter Closed()
    {
        var writer = new StringWriter(CultureInfo.InvariantCulture);
        writer.Dispose();
        return writer;
    }

    private static void Lost(string why, bool pipe) => (lost, readerLeft) = (lost ?? why, readerLeft || pipe);

    private static bool IsLost()
    {
        // .NET takes a reader that left for one that has read enough.
        if (OperatingSystem.IsLinux() && lost is null && !readerLeft)
        {
            var output = new PollEntry { File = 1, Wanted = PollOut };
            if (Poll(ref output, 1, 0) > 0 && (output.Found & PollError) != 0)
                Lost("nobody reads it", pipe: true);
        }
        return lost is not null;
    }

    // A closed descriptor was given to a file of the runtime's by now, which must not be written to. What came with the
    // process did not close itself on exec; so the program is started again in this process, with /dev/null in its place.
    private static void ReplaceClosed()
    {
        var closed = Enumerable
            .Range(0, 3)
            .Where(d => Control(d, GetDescriptorFlags) is var flags && (flags < 0 || (flags & CloseOnExec) != 0))
            .ToList();
        if (closed.Count == 0)
            return;
        var arguments = File.ReadAllText("/proc/self/cmdline").Split('\0')[..^1];
        var variables = Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>().Select(v => $"{v.Key}={v.Value}");
        var program = Environment.ProcessPath!;
        var nothing = Open("/dev/null", OpenReadWrite);
        if (nothing < 0)
            return;
        foreach (var descriptor in closed)
            _ = Duplicate(nothing, descriptor);
        _ = Execute(program, [.. arguments, null], [.. variables, $"{Reopened}={string.Join(',', closed)}", null]);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PollEntry
    {
        public int File;
        public short Wanted;
        public short Found;
    }

    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int Control(int file, int command);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "dup2")]
    private static partial int Duplicate(int file, int onto);

    [LibraryImport("libc", EntryPoint = "execve", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Execute(string program, string?[] arguments, string?[] variables);

    [LibraryImport("libc", EntryPoint = "poll")]
    private static partial int Poll(ref PollEntry entries, nuint count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "signal")]
    private static partial nint Signal(int number, nint handler);
}
