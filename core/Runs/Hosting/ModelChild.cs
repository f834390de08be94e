using System.Diagnostics;

namespace Serverless.Core.Runs;

/// <summary>A child that serves activities one after the other, seen from its parent: a line asks, a line answers.</summary>
internal sealed class ModelChild : IDisposable
{
    private readonly Process process;
    private readonly string? folder;
    private readonly Task<string> error;

    /// <summary>Starts it.</summary>
    /// <param name="program">The program, its streams redirected.</param>
    /// <param name="folder">A folder of its own, which goes with it, or null.</param>
    public ModelChild(ProcessStartInfo program, string? folder)
    {
        this.folder = folder;
        process = Process.Start(program) ?? throw new InvalidOperationException("The process that runs models did not start.");
        error = process.StandardError.ReadToEndAsync();
    }

    /// <summary>Whether it has ended.</summary>
    public bool HasEnded => process.HasExited;

    /// <summary>Asks, and gives the line of the answer, which is empty when it ended without one.</summary>
    public async Task<string> AskAsync(string request, CancellationToken cancellation)
    {
        try
        {
            await process.StandardInput.WriteLineAsync(request.AsMemory(), cancellation);
            await process.StandardInput.FlushAsync(cancellation);
        }
        catch (IOException) when (process.WaitForExit(TimeSpan.FromSeconds(1)))
        {
            // It ended before it read: its exit code says how.
        }
        return await process.StandardOutput.ReadLineAsync(cancellation) ?? "";
    }

    /// <summary>The exit code of one that ends.</summary>
    public async Task<int> ExitCodeAsync(CancellationToken cancellation)
    {
        await process.WaitForExitAsync(cancellation);
        return process.ExitCode;
    }

    /// <summary>All that it wrote to standard error, once it has ended.</summary>
    public async Task<string> ErrorAsync() => (await error).Trim();

    /// <summary>Resident bytes; 0 when it has ended.</summary>
    public long ResidentBytes()
    {
        try
        {
            process.Refresh();
            return process.WorkingSet64;
        }
        catch (InvalidOperationException)
        {
            return 0;
        }
    }

    /// <summary>Ends it.</summary>
    public void Dispose()
    {
        if (!process.HasExited)
            process.Kill();
        // What it had no time to remove itself.
        if (Directory.Exists(folder) && process.WaitForExit(TimeSpan.FromSeconds(1)))
            Directory.Delete(folder, recursive: true);
        process.Dispose();
    }
}
