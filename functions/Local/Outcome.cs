using Serverless.Core;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.Local;

/// <summary>Turns what happened into one sentence and an exit code.</summary>
internal static class Outcome
{
    public static async Task<int> OfAsync(Func<Task<int>> work)
    {
        try
        {
            return await work();
        }
        catch (BadInputException e)
        {
            Console.Error.WriteLine(e.Message);
            return ExitCode.BadInput;
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("Stopped; the same command goes on from here.");
            return ExitCode.Failed;
        }
        catch (ModelKilledException e)
        {
            Console.Error.WriteLine(e.Message);
            return ExitCode.Failed;
        }
        catch (DamagedWorkException e)
        {
            Console.Error.WriteLine(
                $"{e.Message} It was made again several times and is damaged still; check the disk, or give --work another folder."
            );
            return ExitCode.Failed;
        }
        catch (UnauthorizedAccessException e)
        {
            Console.Error.WriteLine($"{Line(e)}; check the permissions of the file or folder.");
            return ExitCode.BadInput;
        }
        catch (FileNotFoundException) when (IsHomeless())
        {
            Console.Error.WriteLine("The current folder was deleted; change to another one.");
            return ExitCode.BadInput;
        }
        catch (IOException e)
        {
            Console.Error.WriteLine($"{Line(e)}; the same command goes on from here once that is mended.");
            return ExitCode.Failed;
        }
        catch (Exception e) when (Environment.GetEnvironmentVariable("SERVERLESS_TRACE") is null)
        {
            Console.Error.WriteLine($"{e.GetType().Name}: {Line(e)}; set SERVERLESS_TRACE=1 to see where.");
            return ExitCode.Failed;
        }
    }

    private static bool IsHomeless()
    {
        try
        {
            return Directory.GetCurrentDirectory().Length == 0;
        }
        catch (FileNotFoundException)
        {
            return true;
        }
    }

    private static string Line(Exception e) => Printable.Line(SecretText.Cut(e.Message)).TrimEnd('.');
}
