using System.Text.RegularExpressions;

namespace Serverless.Core;

/// <summary>Text and addresses without the secrets in them, for messages and logs.</summary>
public static class SecretText
{
    // Linear in the text, whoever wrote it.
    private const RegexOptions Options = RegexOptions.NonBacktracking | RegexOptions.IgnoreCase | RegexOptions.CultureInvariant;

    private static readonly Regex Address = new("""([a-z][a-z0-9+.-]*://)(?:[^\s/?#'"]*@)?([^\s?#'"<>]*)([?#][^\s'"<>]*)?""", Options);
    private static readonly Regex Signature = new("""(SharedAccessSignature)=[^;\s'"]+""", Options);
    private static readonly Regex Key = new("""\b(AccountKey|SharedAccessKey|AccessKey|Password|sig|code)=[^;&\s'"]+""", Options);

    /// <summary>
    /// Cuts user names, passwords, queries and fragments out of the URLs in a text, and keys and signatures out of connection strings.
    /// </summary>
    public static string Cut(string text)
    {
        var plain = Address.Replace(text, m => m.Groups[1].Value + m.Groups[2].Value + (m.Groups[3].Length > 0 ? "?…" : ""));
        return Key.Replace(Signature.Replace(plain, "$1=…"), "$1=…");
    }

    /// <summary>The scheme, host and port of an address; a webhook's path may be a secret too.</summary>
    public static string Host(Uri address) => address.GetComponents(UriComponents.SchemeAndServer, UriFormat.UriEscaped);

    /// <summary>An address without user name, password, query and fragment.</summary>
    public static string Place(Uri address) =>
        address.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.UriEscaped).TrimEnd('/');
}
