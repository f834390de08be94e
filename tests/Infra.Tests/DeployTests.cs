using System.Diagnostics;
using System.Reflection;
using Xunit;

namespace Serverless.Infra.Tests;

/// <summary>What <c>deploy.sh</c> checks before it makes anything, with a stand-in for <c>az</c> that notes how it is called.</summary>
public sealed class DeployTests : IDisposable
{
    private readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("deploy-");

    [Theory]
    [InlineData(
        "prod",
        "westeurope",
        """[{"name": "D4"}, {"name": "Consumption"}]""",
        "westeurope has no workload profile Consumption-GPU-NC8as-T4"
    )]
    [InlineData("prod", "westus3", null, "az: not signed in")]
    [InlineData("nowhere", "westus3", "[]", "infra/main.nowhere.bicepparam: there is no such file")]
    public async Task Nothing_is_made_where_it_could_not_work(string environment, string region, string? profiles, string why)
    {
        var (exit, error, calls) = await DeployAsync(environment, region, profiles);
        Assert.Equal(2, exit);
        Assert.StartsWith(why, error);
        Assert.DoesNotContain(calls, c => c.Contains("create", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_region_with_the_profile_is_taken()
    {
        var (_, _, calls) = await DeployAsync("prod", "swedencentral", """[{"name": "Consumption-GPU-NC8as-T4"}]""");
        Assert.Contains(calls, c => c.StartsWith("group create", StringComparison.Ordinal));
    }

    public void Dispose() => folder.Delete(recursive: true);

    // Making the group fails, so that nothing goes on from there.
    private async Task<(int Exit, string Error, string[] Calls)> DeployAsync(string environment, string region, string? profiles)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "needs bash");
        var (log, az) = (Path.Combine(folder.FullName, "calls"), Path.Combine(folder.FullName, "az"));
        await File.WriteAllTextAsync(log, "");
        await File.WriteAllTextAsync(Path.Combine(folder.FullName, "profiles"), profiles ?? "");
        await File.WriteAllTextAsync(
            az,
            $$"""
            #!/usr/bin/env bash
            echo "$*" >> "{{log}}"
            case "$1 $2" in
              "account show") exit {{(profiles is null ? 1 : 0)}} ;;
              "containerapp env") cat "{{folder.FullName}}/profiles" ;;
              *) exit 1 ;;
            esac
            """
        );
        foreach (var tool in new[] { "zip", "openssl" })
            await File.WriteAllTextAsync(Path.Combine(folder.FullName, tool), "#!/bin/sh\n");
        foreach (var tool in new[] { "az", "zip", "openssl" })
            if (OperatingSystem.IsLinux())
                File.SetUnixFileMode(Path.Combine(folder.FullName, tool), UnixFileMode.UserRead | UnixFileMode.UserExecute);
        var root = typeof(DeployTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(m => m.Key == "Repository").Value!;
        var start = new ProcessStartInfo("bash", ["infra/deploy.sh", environment, "group", region])
        {
            WorkingDirectory = root,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        start.Environment["PATH"] = $"{folder.FullName}:{Environment.GetEnvironmentVariable("PATH")}";
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = await process.StandardError.ReadToEndAsync();
        await output;
        await process.WaitForExitAsync();
        return (process.ExitCode, error, await File.ReadAllLinesAsync(log));
    }
}
