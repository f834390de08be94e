using System.Net;
using System.Net.Sockets;

namespace Serverless.Core.Events;

/// <summary>
/// Tells addresses of the public internet from special ones: those of the IANA special-purpose registries (RFC 6890) of IPv4
/// and IPv6, those reachable by everybody included, multicast, and the platform address of Azure. Of IPv6 only 2000::/3 is
/// public unicast (RFC 4291, section 2.4).
/// </summary>
public static class PublicAddress
{
    private static readonly IPNetwork GlobalUnicast = IPNetwork.Parse("2000::/3");

    private static readonly IPNetwork[] Special =
    [
        .. new[]
        {
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            // Azure's resolver, health probes and guest agent, the same in every virtual network.
            "168.63.129.16/32",
            // Teredo, benchmarking, AMT, AS112, ORCHID and drone ids; documentation; 6to4; AS112; documentation.
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "2620:4f:8000::/48",
            "3fff::/20",
        }.Select(IPNetwork.Parse),
    ];

    /// <summary>Whether an address is one that anybody on the internet could reach.</summary>
    public static bool Is(IPAddress address)
    {
        var plain = address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        if (plain.AddressFamily == AddressFamily.InterNetworkV6 && (plain.ScopeId != 0 || !GlobalUnicast.Contains(plain)))
            return false;
        return !Special.Any(n => n.BaseAddress.AddressFamily == plain.AddressFamily && n.Contains(plain));
    }

    /// <summary>
    /// Connects to public addresses alone. The check is on the address connected to, not on the name, so that a name
    /// that is resolved twice to different addresses gains nothing.
    /// </summary>
    /// <exception cref="BadInputException">All addresses of the host are private.</exception>
    public static async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        var addresses = (await Dns.GetHostAddressesAsync(context.DnsEndPoint.Host, cancellation)).Where(Is).ToArray();
        if (addresses.Length == 0)
            throw new BadInputException(
                $"{context.DnsEndPoint.Host}: a webhook may not go to a private network; set "
                    + "SERVERLESS_WEBHOOKS_PRIVATE=true where it should."
            );
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(addresses, context.DnsEndPoint.Port, cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
