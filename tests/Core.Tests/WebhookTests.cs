using System.Net;
using System.Text.Json;
using Serverless.Core.Events;
using Serverless.Core.Storage;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Events that go out, to webhooks.</summary>
public class WebhookTests
{
    private const string Secret = "0123456789abcdef0123456789abcdef";
    private static readonly NetworkOptions Quick = new()
    {
        MaxAttempts = 3,
        FirstPause = TimeSpan.FromMilliseconds(5),
        LongestPause = TimeSpan.FromMilliseconds(20),
        AttemptTimeout = TimeSpan.FromSeconds(5),
    };
    private static readonly RunEvent Happened = new(
        RunEvent.RetrainingRequested,
        "ocr-0123456789ab",
        "ocr",
        "drop/ocr.onnx",
        new DateTime(2026, 11, 24, 1, 2, 3, DateTimeKind.Utc)
    )
    {
        Student = "work/x/model.onnx",
        Loss = 0.1,
        Round = 1,
    };

    [Fact]
    public async Task A_webhook_gets_a_signed_CloudEvent_and_is_tried_again_when_it_stumbles()
    {
        using var listener = new Receiver(503, 200);
        using var sender = new EventSender(new EventSettings(null, [listener.Address], Secret, AllowPrivate: true), Quick);
        Assert.Empty(await sender.SendAsync(Happened, default));
        Assert.Equal(2, listener.Requests.Count);
        var (headers, body) = listener.Requests[1];
        Assert.Null(
            WebhookSignature.WhyRefused(
                Secret,
                headers[WebhookSignature.TimestampHeader],
                headers[WebhookSignature.SignatureHeader],
                body,
                DateTimeOffset.UtcNow
            )
        );
        Assert.StartsWith("application/cloudevents+json", headers["Content-Type"]);
        var parsed = Azure.Messaging.CloudEvent.Parse(BinaryData.FromBytes(body))!;
        Assert.Equal(
            (RunEvent.RetrainingRequested, "/serverless/runs/ocr-0123456789ab", "ocr-0123456789ab/serverless.run.retraining-requested/1"),
            (parsed.Type, parsed.Source, parsed.Id)
        );
        Assert.Equal("work/x/model.onnx", JsonDocument.Parse(parsed.Data!).RootElement.GetProperty("student").GetString());
        using var gone = new Receiver(410);
        using var other = new EventSender(new EventSettings(null, [gone.Address], Secret, AllowPrivate: true), Quick);
        Assert.Contains("410", Assert.Single(await other.SendAsync(Happened, default)));
        Assert.Single(gone.Requests);
    }

    [Fact]
    public async Task A_webhook_into_a_private_network_is_refused_unless_allowed()
    {
        using var listener = new Receiver(200);
        using var sender = new EventSender(
            new EventSettings(null, [listener.Address, new Uri($"http://localhost:{listener.Address.Port}/")], Secret, AllowPrivate: false),
            Quick
        );
        var failures = await sender.SendAsync(Happened, default);
        Assert.Equal(2, failures.Count);
        Assert.All(failures, f => Assert.Contains("private network", f));
        Assert.Empty(listener.Requests);
        Assert.Throws<BadInputException>(() =>
            EventSettings.Read(n =>
                n switch
                {
                    "SERVERLESS_WEBHOOKS" => "http://example.com",
                    "SERVERLESS_HOOK_SECRET" => Secret,
                    _ => null,
                }
            )
        );
        Assert.Throws<BadInputException>(() =>
            EventSettings.Read(n =>
                n switch
                {
                    "SERVERLESS_WEBHOOKS" => "https://example.com",
                    _ => null,
                }
            )
        );
        Assert.Throws<BadInputException>(() => EventSettings.Read(n => n == "SERVERLESS_EVENT_TOPIC" ? "ftp://x" : null));
    }

    [Fact]
    public async Task Secrets_of_addresses_are_not_shown()
    {
        const string hidden = "s3cret";
        using var gone = new Receiver(410);
        var address = new Uri($"http://user:{hidden}@127.0.0.1:{gone.Address.Port}/hooks/{hidden}?code={hidden}");
        var settings = new EventSettings(null, [address], Secret, AllowPrivate: true);
        using var sender = new EventSender(settings, Quick);
        Assert.Equal(
            $"http://127.0.0.1:{gone.Address.Port} was not told of {Happened.Type}: it answered 410",
            Assert.Single(await sender.SendAsync(Happened, default))
        );
        foreach (
            var wrong in new[]
            {
                $"http://user:{hidden}@example.com/{hidden}?sig={hidden}",
                $"ftp://user:{hidden}@example.com",
                $"{hidden}@nowhere",
            }
        )
            Assert.DoesNotContain(
                hidden,
                Assert
                    .Throws<BadInputException>(() =>
                        EventSettings.Read(n =>
                            n switch
                            {
                                "SERVERLESS_WEBHOOKS" => wrong,
                                "SERVERLESS_HOOK_SECRET" => Secret,
                                _ => null,
                            }
                        )
                    )
                    .Message
            );
        Assert.DoesNotContain(hidden, $"{settings}");
        Assert.DoesNotContain(Secret, $"{settings}");
        Assert.DoesNotContain(hidden, $"{StoreSpec.Of($"AccountName=a;AccountKey={hidden}")}");
        Assert.Throws<BadInputException>(() =>
            IncomingEvent.Read("""{"type": "serverless.model.retrained", "data": {"model": "\ud800"}}""")
        );
    }

    [Theory]
    [InlineData("8.8.8.8", true)]
    [InlineData("10.1.2.3", false)]
    [InlineData("127.0.0.1", false)]
    [InlineData("169.254.169.254", false)]
    [InlineData("172.31.255.255", false)]
    [InlineData("172.32.0.1", true)]
    [InlineData("192.168.0.1", false)]
    [InlineData("100.64.0.1", false)]
    [InlineData("0.0.0.0", false)]
    [InlineData("::1", false)]
    [InlineData("::ffff:10.0.0.1", false)]
    [InlineData("::ffff:8.8.8.8", true)]
    [InlineData("64:ff9b::a00:1", false)]
    [InlineData("fd00::1", false)]
    [InlineData("fe80::1", false)]
    [InlineData("2606:4700::1111", true)]
    [InlineData("2a01:111:f100::1", true)]
    [InlineData("168.63.129.16", false)]
    [InlineData("::ffff:168.63.129.16", false)]
    [InlineData("168.63.129.17", true)]
    [InlineData("::ffff:0:10.0.0.1", false)]
    [InlineData("::ffff:0:0:10.0.0.1", false)]
    [InlineData("::ffff:0:8.8.8.8", false)]
    [InlineData("::10.0.0.1", false)]
    [InlineData("64:ff9b::8.8.8.8", false)]
    [InlineData("64:ff9b:1::a00:1", false)]
    [InlineData("2002:a00:1::1", false)]
    [InlineData("2001:0:1::1", false)]
    [InlineData("2001:20::1", false)]
    [InlineData("2001:1::1", false)]
    [InlineData("2001:200::1", true)]
    [InlineData("2001:db8::1", false)]
    [InlineData("2620:4f:8000::1", false)]
    [InlineData("3fff::1", false)]
    [InlineData("3fff:1000::1", true)]
    [InlineData("5f00::1", false)]
    [InlineData("100::1", false)]
    [InlineData("100:0:0:1::1", false)]
    [InlineData("4000::1", false)]
    [InlineData("fec0::1", false)]
    [InlineData("ff02::1", false)]
    [InlineData("2606:4700::1111%3", false)]
    [InlineData("fe80::1%3", false)]
    [InlineData("192.31.196.1", false)]
    [InlineData("192.52.193.1", false)]
    [InlineData("192.175.48.1", false)]
    [InlineData("192.88.99.1", false)]
    [InlineData("198.19.0.1", false)]
    [InlineData("255.255.255.255", false)]
    [InlineData("239.1.1.1", false)]
    public void Private_addresses_are_told_from_public_ones(string address, bool isPublic) =>
        Assert.Equal(isPublic, PublicAddress.Is(IPAddress.Parse(address)));

    private sealed class Receiver : IDisposable
    {
        private readonly HttpListener listener;
        private readonly Queue<int> answers;

        public Receiver(params int[] answers)
        {
            this.answers = new Queue<int>(answers);
            for (var port = 30000 + Random.Shared.Next(20000); ; port++)
            {
                // A listener that could not start is disposed of: each port takes a new one.
                var candidate = new HttpListener { Prefixes = { $"http://127.0.0.1:{port}/", $"http://localhost:{port}/" } };
                try
                {
                    candidate.Start();
                }
                catch (HttpListenerException) when (port < 65000)
                {
                    continue;
                }
                (listener, Address) = (candidate, new Uri($"http://127.0.0.1:{port}/"));
                break;
            }
            _ = ServeAsync();
        }

        public Uri Address { get; }

        public List<(Dictionary<string, string> Headers, byte[] Body)> Requests { get; } = [];

        public void Dispose() => listener.Close();

        private async Task ServeAsync()
        {
            while (answers.Count > 0)
            {
                var context = await listener.GetContextAsync();
                using var body = new MemoryStream();
                await context.Request.InputStream.CopyToAsync(body);
                Requests.Add((context.Request.Headers.AllKeys.ToDictionary(k => k!, k => context.Request.Headers[k]!), body.ToArray()));
                context.Response.StatusCode = answers.Dequeue();
                context.Response.Close();
            }
        }
    }
}
