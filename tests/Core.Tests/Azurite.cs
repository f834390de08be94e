using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Azure.Storage.Blobs;
using Serverless.Core.Storage;
using Xunit;

namespace Serverless.TestSupport;

/// <summary>
/// A real Azurite on loopback, installed by npm once into the ignored folder <c>.models</c>; tests skip where it cannot be had.
/// </summary>
public sealed class Azurite : IAsyncLifetime
{
    private const string Account = "devstoreaccount1",
        Key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    private Process? process;
    private string? folder;
    private int port;

    public string ConnectionString
    {
        get
        {
            Assert.SkipWhen(process is null, "npm could not install azurite here.");
            return $"DefaultEndpointsProtocol=http;AccountName={Account};AccountKey={Key};BlobEndpoint=http://127.0.0.1:{port}/{Account};QueueEndpoint=http://127.0.0.1:{port + 1}/{Account};";
        }
    }

    public BlobStore Store(Action<BlobClientOptions>? change = null, NetworkOptions? network = null)
    {
        var options = BlobStore.ClientOptions();
        change?.Invoke(options);
        return new BlobStore(new BlobServiceClient(ConnectionString, options), network);
    }

    public async ValueTask InitializeAsync()
    {
        if (RealModels.Install("azurite@3.35.0") is not { } root)
            return;
        folder = Directory.CreateTempSubdirectory("azurite-").FullName;
        port = FreePorts();
        var script = Path.Combine(root, "node_modules", "azurite", "dist", "src", "azurite.js");
        process = Process.Start(
            new ProcessStartInfo(
                "node",
                [
                    script,
                    "--silent",
                    "--skipApiVersionCheck",
                    "--location",
                    folder,
                    "--blobHost",
                    "127.0.0.1",
                    "--blobPort",
                    $"{port}",
                    "--queueHost",
                    "127.0.0.1",
                    "--queuePort",
                    $"{port + 1}",
                    "--tableHost",
                    "127.0.0.1",
                    "--tablePort",
                    $"{port + 2}",
                ]
            )
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        _ = process.StandardOutput.ReadToEndAsync();
        _ = process.StandardError.ReadToEndAsync();
        for (var i = 0; i < 300; i++)
        {
            using var probe = new TcpClient();
            try
            {
                await probe.ConnectAsync(IPAddress.Loopback, port);
                return;
            }
            catch (SocketException)
            {
                await Task.Delay(100);
            }
        }
        throw new InvalidOperationException("Azurite did not start.");
    }

    public ValueTask DisposeAsync()
    {
        if (process is not null)
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
            process.Dispose();
        }
        if (folder is not null)
            Directory.Delete(folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    private static int FreePorts()
    {
        for (var from = 20000 + Random.Shared.Next(20000); ; from += 3)
        {
            try
            {
                for (var i = 0; i < 3; i++)
                {
                    using var listener = new TcpListener(IPAddress.Loopback, from + i);
                    listener.Start();
                }
                return from;
            }
            catch (SocketException)
            {
                continue;
            }
        }
    }
}
