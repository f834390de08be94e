namespace Serverless.Core.Events;

/// <summary>Who hears of runs, and the secret shared with them; from the environment, where hosts keep their settings.</summary>
/// <param name="Topic">Endpoint of an Event Grid topic with the CloudEvents schema, or null.</param>
/// <param name="Webhooks">Where events are posted, signed.</param>
/// <param name="Secret">The secret that hooks are signed with, in and out; at least 32 characters; empty when there is none.</param>
/// <param name="AllowPrivate">Whether webhooks may go to private networks.</param>
public sealed record EventSettings(Uri? Topic, IReadOnlyList<Uri> Webhooks, string Secret, bool AllowPrivate)
{
    /// <summary>
    /// Reads <c>SERVERLESS_EVENT_TOPIC</c>, <c>SERVERLESS_WEBHOOKS</c> (separated by spaces), <c>SERVERLESS_HOOK_SECRET</c> and
    /// <c>SERVERLESS_WEBHOOKS_PRIVATE</c>.
    /// </summary>
    /// <param name="get">A variable by name, or null.</param>
    /// <exception cref="BadInputException">One of them makes no sense.</exception>
    public static EventSettings Read(Func<string, string?> get)
    {
        var secret = get("SERVERLESS_HOOK_SECRET") ?? "";
        var hooks = (get("SERVERLESS_WEBHOOKS") ?? "")
            .Split([' ', ','], StringSplitOptions.RemoveEmptyEntries)
            .Select((h, i) => Address($"SERVERLESS_WEBHOOKS, address {i + 1}", h))
            .ToList();
        var allow = get("SERVERLESS_WEBHOOKS_PRIVATE") is "true" or "1";
        if (hooks.Count > 0 && secret.Length < WebhookSignature.ShortestSecret)
            throw new BadInputException(
                $"SERVERLESS_HOOK_SECRET: webhooks are signed; set a secret of at least {WebhookSignature.ShortestSecret} characters."
            );
        if (!allow && hooks.FirstOrDefault(h => h.Scheme != Uri.UriSchemeHttps) is { } plain)
            throw new BadInputException(
                $"SERVERLESS_WEBHOOKS: '{SecretText.Host(plain)}' is not https; "
                    + "only webhooks in a private network (SERVERLESS_WEBHOOKS_PRIVATE=true) may be."
            );
        return new EventSettings(
            get("SERVERLESS_EVENT_TOPIC") is { Length: > 0 } topic ? Address("SERVERLESS_EVENT_TOPIC", topic) : null,
            hooks,
            secret,
            allow
        );
    }

    /// <summary>How many listen; addresses and the secret are not shown.</summary>
    public override string ToString() => $"{(Topic is null ? "no topic" : "a topic")}, {Webhooks.Count} webhooks";

    // What cannot be read as an address may still hold a password.
    private static Uri Address(string variable, string text) =>
        Uri.TryCreate(text, UriKind.Absolute, out var uri) && uri.Scheme is "https" or "http"
            ? uri
            : throw new BadInputException($"{variable}: not an http(s) address; give it as https://HOST/PATH.");
}
