//! Which remotes the server may talk to: URL prefixes, and the addresses behind names that no prefix vouches for.
//!
//! A URL is judged after the `url` crate has normalised it (dot segments, `127.1`, full-width letters), and exactly
//! that normalised URL is the one requested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::RemoteError;

/// Longest URL, bytes.
const URL_LEN_MAX: usize = 2_048;
/// Hosts that are known to be public: an entry that names them vouches for no private address.
const PUBLIC_HOSTS: [&str; 1] = ["github.com"];

/// Which addresses a host name may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// Only addresses of the public internet: no loopback, private, link-local or other special ones.
    Public,
    /// Any: whoever configured the server named this very host.
    Any,
}

/// URL prefixes, each of which permits exactly its scheme, host, port and path.
///
/// The path is compared by component: `https://github.com/o` permits `https://github.com/o/docs`, not
/// `https://github.com/other`. A prefix without a host, `https://`, permits every host at the scheme's own port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    prefixes: Vec<Prefix>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Prefix {
    scheme: String,
    /// `None` = any.
    host: Option<Host<String>>,
    port: Option<u16>,
    path: Vec<String>,
}

impl AllowList {
    /// Reads the prefixes; [`RemoteError::NotAllowed`] says which one is no `http` or `https` prefix.
    pub fn parse(prefixes: &[String]) -> Result<Self, RemoteError> {
        let prefixes = prefixes.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        Ok(Self { prefixes: prefixes.map(Prefix::parse).collect::<Result<_, _>>()? })
    }

    /// Whether a prefix permits the URL that names its host.
    pub fn names_host(&self, text: &str) -> bool {
        let names = |url: Url| self.prefixes.iter().any(|prefix| prefix.host.is_some() && prefix.permits(&url));
        parse_url(text).is_ok_and(names)
    }

    /// The normalised URL, without a slash at its end, and the addresses that its host may have.
    ///
    /// Refused are other schemes than `http` and `https`, user names and passwords, queries, fragments, control
    /// characters and whatever no prefix permits. No network is used.
    pub fn judge(&self, text: &str) -> Result<(Url, Addresses), RemoteError> {
        let url = parse_url(text)?;
        let permitting = self.prefixes.iter().filter(|prefix| prefix.permits(&url));
        let Some(addresses) = permitting.map(|prefix| prefix.addresses()).max_by_key(|a| *a == Addresses::Any) else {
            return Err(refused(format!("{url} is not among the remotes that this server is allowed to use")));
        };
        if addresses == Addresses::Public {
            check_literal(&url)?;
        }
        Ok((url, addresses))
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, RemoteError> {
        if let "https://" | "http://" = text {
            let scheme = text.trim_end_matches("://").to_owned();
            let port = Some(if scheme == "https" { 443 } else { 80 });
            return Ok(Self { scheme, host: None, port, path: Vec::new() });
        }
        let url = parse_url(text).map_err(|error| refused(format!("in the list of allowed remotes: {error}")))?;
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: url.host().map(|host| host.to_owned()),
            port: url.port_or_known_default(),
            path: components(&url),
        })
    }

    fn permits(&self, url: &Url) -> bool {
        let host_is_mine = self.host.as_ref().is_none_or(|host| url.host().is_some_and(|h| h.to_owned() == *host));
        self.scheme == url.scheme()
            && host_is_mine
            && self.port == url.port_or_known_default()
            && components(url).starts_with(&self.path)
    }

    fn addresses(&self) -> Addresses {
        match &self.host {
            None => Addresses::Public,
            Some(Host::Domain(name)) if PUBLIC_HOSTS.contains(&name.as_str()) => Addresses::Public,
            Some(_) => Addresses::Any,
        }
    }
}

/// Whether a remote is an HTTP URL, in whatever case its scheme is written. All others are paths, which only operators may name: whoever takes
/// a URL for a path has it escape the allow-list and the address check.
pub(crate) fn is_http(text: &str) -> bool {
    after_scheme(text).is_some()
}

/// What follows `https://` or `http://`.
fn after_scheme(text: &str) -> Option<&str> {
    ["https://", "http://"].iter().find_map(|scheme| {
        text.get(..scheme.len()).filter(|head| head.eq_ignore_ascii_case(scheme)).map(|head| &text[head.len()..])
    })
}

/// Reads an `http` or `https` URL of a repository as anybody may give it, an operator included.
pub(super) fn parse_url(text: &str) -> Result<Url, RemoteError> {
    if text.len() > URL_LEN_MAX {
        return Err(refused(format!("a remote's URL has at most {URL_LEN_MAX} bytes")));
    }
    // The parser would drop some of these silently, and what is judged must be what was given.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(refused("a remote's URL has no spaces, backslashes or control characters".into()));
    }
    let Some(rest) = after_scheme(text) else {
        return Err(refused("a remote is an https:// URL (or http://, where the server allows it)".into()));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(refused("the remote's URL names no host".into()));
    }
    if authority.contains('@') {
        return Err(refused("a remote's URL must not contain a user name or password".into()));
    }
    let mut url = Url::parse(text).map_err(|error| refused(format!("the remote's URL is not valid: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("a remote's URL must not contain a user name or password".into()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("a remote's URL must not have a query or fragment".into()));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    check_path(&path)?;
    url.set_path(&path);
    Ok(url)
}

/// Refuses what a server might read as other components than we do.
fn check_path(path: &str) -> Result<(), RemoteError> {
    let lower = path.to_ascii_lowercase();
    let encoded_separator = ["%2f", "%5c", "%25", "%2e", "%0", "%1", "%7f"].iter().any(|code| lower.contains(code));
    if encoded_separator || path.contains("//") {
        return Err(refused("the path of a remote's URL must not have empty or disguised components".into()));
    }
    Ok(())
}

fn components(url: &Url) -> Vec<String> {
    url.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Refuses a host that is written as an address which is not public. Names are judged when they are resolved.
fn check_literal(url: &Url) -> Result<(), RemoteError> {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        _ => return Ok(()),
    };
    if is_public(address) { Ok(()) } else { Err(refused(format!("{address} is not a public address"))) }
}

fn refused(text: String) -> RemoteError {
    RemoteError::NotAllowed(text)
}

/// Whether the address is one of the public internet, by IANA's special-purpose registries.
///
/// Addresses that stand for an IPv4 address (mapped, NAT64) are as public as that one; tunnels (6to4, Teredo) are
/// not public.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0 // this network
        || a == 10 // private
        || (a == 100 && (64..128).contains(&b)) // shared with carriers (CGNAT)
        || a == 127 // loopback
        || (a == 169 && b == 254) // link-local, cloud metadata
        || (a == 172 && (16..32).contains(&b)) // private
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 0 && c == 2) // documentation
        || (a == 192 && b == 31 && c == 196) // AS112
        || (a == 192 && b == 52 && c == 193) // AMT
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 192 && b == 168) // private
        || (a == 192 && b == 175 && c == 48) // AS112
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || (a == 198 && b == 51 && c == 100) // documentation
        || (a == 203 && b == 0 && c == 113) // documentation
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let embedded = || {
        let [a, b] = s[6].to_be_bytes();
        let [c, d] = s[7].to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        // IPv4-mapped: the socket layer connects to the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, _, _] => is_public_v4(embedded()),
        // NAT64 (RFC 6052): how hosts without IPv4 reach hosts without IPv6.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(embedded()),
        // Teredo and other protocol assignments, ORCHID, benchmarks: 2001::/23.
        [0x2001, second, ..] if second < 0x0200 => false,
        [0x2001, 0x0db8, ..] | [0x2002, ..] => false,
        // Documentation, 3fff::/20.
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Global unicast is 2000::/3; everything else is loopback, unspecified, local, multicast or unassigned.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(prefixes: &[&str]) -> AllowList {
        AllowList::parse(&prefixes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_prefix_permits_exactly_itself() {
        for (prefix, url, allowed) in [
            ("https://github.com/", "https://github.com/o/docs", true),
            ("https://github.com", "https://github.com/o/docs.git", true),
            ("https://github.com/", "https://GitHub.com:443/o/docs/", true),
            ("https://github.com/", "HTTPS://github.com/o/docs", true),
            ("https://github.com/", "http://github.com/o/docs", false),
            ("https://github.com/", "https://github.com:8443/o/docs", false),
            ("https://github.com/", "https://github.com.evil.example/o/docs", false),
            ("https://github.com/", "https://evil.example/github.com/", false),
            ("https://github.com/", "https://api.github.com/o/docs", false),
            ("https://github.com/", "https://github.com./o/docs", false),
            // What is requested is what was judged: the name that all of them are in ASCII.
            ("https://github.com/", "https://ⓖithub.com/o/docs", true),
            ("https://github.com/", "https://gіthub.com/o/docs", false),
            ("https://github.com/", "https://xn--github-.com/o/docs", false),
            ("https://", "https://xn--github-.com/o/docs", false),
            ("https://", "https://xn--localhost-/o/docs", false),
            ("https://github.com/o", "https://github.com/o/docs", true),
            ("https://github.com/o", "https://github.com/o", true),
            ("https://github.com/o/", "https://github.com/o", true),
            ("https://github.com/o", "https://github.com/other", false),
            ("https://github.com/o", "https://github.com/O/docs", false),
            ("https://github.com/o/", "https://github.com/o/../p", false),
            ("https://github.com/o/", "https://github.com/o/%2e%2e/p", false),
            ("https://github.com/o/", "https://github.com/p/../o/docs", true),
            ("https://github.com/o/", "https://github.com/o/./docs", true),
            ("https://github.com/o/docs", "https://github.com/o/docs.git", false),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3000/o/docs", true),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3001/o/docs", false),
            ("http://127.0.0.1:3000/", "http://localhost:3000/o/docs", false),
            ("http://127.0.0.1:3000/", "http://127.1:3000/o/docs", true),
            ("http://[::1]:3000/", "http://[0:0::1]:3000/x", true),
            ("http://localhost:3000/", "http://localhost:3000/x", true),
            ("https://", "https://any.example/x", true),
            ("https://", "https://any.example:8443/x", false),
            ("https://", "http://any.example/x", false),
        ] {
            let verdict = list(&[prefix]).judge(url);
            assert_eq!(verdict.is_ok(), allowed, "{prefix} {url} {verdict:?}");
        }
        assert!(list(&[]).judge("https://github.com/o/docs").is_err());
        assert!(list(&["https://a.example/", "https://b.example/"]).judge("https://b.example/x").is_ok());
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        let list = list(&["https://", "http://", "https://github.com/"]);
        for url in [
            "https://user@github.com/o/docs",
            "https://user:password@github.com/o/docs",
            "https://:password@github.com/o/docs",
            "https://@github.com/o/docs",
            "https://github.com@evil.example/",
            "https://github.com/o/docs?x=1",
            "https://github.com/o/docs?",
            "https://github.com/o/docs#main",
            "https://github.com/o/docs\r\nX: y",
            "https://github.com/o/docs\n",
            "https://github.com/o/do\tcs",
            "https://github.com/o/do\u{0}cs",
            "https://github.com/o/do cs",
            "https://github.com\\@evil.example/",
            "https://github.com/o/..%2fp",
            "https://github.com/o/..%5Cp",
            "https://github.com/o/%252e%252e/p",
            "https://github.com/o/%0d%0ax",
            "https://github.com/o//p",
            "https:github.com/o/docs",
            "https:/github.com/o/docs",
            "https:///github.com/o/docs",
            "https://",
            "//github.com/o/docs",
            "github.com/o/docs",
            "git@github.com:o/docs.git",
            "ssh://git@github.com/o/docs",
            "git://github.com/o/docs",
            "file:///etc",
            "ext::sh -c id",
            "ext::https://github.com/",
            "-oProxyCommand=id",
            "--upload-pack=id",
            "/srv/git/docs.git",
            "ftp://github.com/o/docs",
            "",
        ] {
            assert!(matches!(list.judge(url), Err(RemoteError::NotAllowed(_))), "{url:?}");
        }
        assert!(list.judge(&format!("https://github.com/{}", "a".repeat(URL_LEN_MAX))).is_err());
    }

    /// Goal: no spelling of a URL gets out of its prefix.
    /// Method: URLs put together at random from the pieces that such tricks are made of.
    #[test]
    fn no_spelling_escapes_the_prefix() {
        use rand::{Rng, SeedableRng};
        const PIECES: [&str; 40] = [
            "https://",
            "http://",
            "HTTPS:",
            "//",
            "/",
            "\\",
            "github.com",
            "GitHub.COM",
            "evil.example",
            "127.0.0.1",
            "[::1]",
            ":443",
            ":80",
            ":",
            "@",
            "user",
            "o",
            "other",
            "p",
            "..",
            ".",
            "%2e",
            "%2E%2e",
            "%2f",
            "%5c",
            "%00",
            "%25",
            "?",
            "#",
            ";",
            "&",
            "=",
            " ",
            "\t",
            "\n",
            "\u{3002}",
            "\u{ff0f}",
            "\u{ad}",
            "docs.git",
            "-",
        ];
        let seed = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(rand::random);
        println!("TREEHOLD_TEST_SEED={seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let (list, mut permitted) = (list(&["https://github.com/o"]), 0);
        for _ in 0..200_000 {
            let start = ["https://github.com/o/", "https://github.com/", ""][random.random_range(0..3)];
            let pieces = (0..random.random_range(0..6)).map(|_| PIECES[random.random_range(0..PIECES.len())]);
            let text = start.to_owned() + &pieces.collect::<String>();
            let Ok((url, addresses)) = list.judge(&text) else { continue };
            permitted += 1;
            let path = url.as_str().strip_prefix("https://github.com/o").unwrap_or_else(|| panic!("{text:?}: {url}"));
            assert!(path.is_empty() || path.starts_with('/'), "{text:?}: {url}");
            assert!(!path.contains(['?', '#', '\\']), "{text:?}: {url}");
            assert!(path.split('/').all(|part| part != ".." && part != "."), "{text:?}: {url}");
            assert_eq!(addresses, Addresses::Public);
        }
        assert!(permitted > 1_000, "{permitted}");
    }

    #[test]
    fn a_refusal_does_not_repeat_the_password() {
        for url in ["https://u:hunter2@github.com/x", "ssh://u:hunter2@github.com/", "https://u:hunter2@[/"] {
            let text = format!("{0:?} {0}", list(&["https://"]).judge(url).unwrap_err());
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn urls_are_no_paths_however_they_are_written() {
        for url in ["https://h/x", "http://h/x", "HTTPS://h/x", "hTtP://h/x", "HTTP://"] {
            assert!(is_http(url), "{url}");
        }
        for path in ["/srv/git", "file:///srv", "https:/h/x", "https", "é", "htt", ""] {
            assert!(!is_http(path), "{path}");
        }
    }

    #[test]
    fn entries_that_are_no_prefix_are_refused() {
        for entry in ["github.com", "ssh://github.com/", "https://u@github.com/", "https://github.com/?x", "*"] {
            assert!(AllowList::parse(&[entry.to_owned()]).is_err(), "{entry}");
        }
    }

    #[test]
    fn only_a_named_host_may_be_private() {
        for (prefixes, url, expected) in [
            (&["https://github.com/"][..], "https://github.com/o/d", Some(Addresses::Public)),
            (&["https://git.corp.example/"], "https://git.corp.example/o/d", Some(Addresses::Any)),
            (&["https://"], "https://git.corp.example/o/d", Some(Addresses::Public)),
            (&["https://", "https://git.corp.example/o"], "https://git.corp.example/o/d", Some(Addresses::Any)),
            (&["https://", "https://git.corp.example/o"], "https://git.corp.example/p/d", Some(Addresses::Public)),
            (&["http://10.0.0.7/"], "http://10.0.0.7/o", Some(Addresses::Any)),
            (&["http://"], "http://10.0.0.7/o", None),
            (&["http://"], "http://2130706433/o", None),
            (&["http://"], "http://0x7f.1/o", None),
            (&["http://"], "http://017700000001/o", None),
            (&["http://"], "http://127.1/o", None),
            (&["http://"], "http://0/o", None),
            (&["http://"], "http://169.254.169.254/latest", None),
            (&["http://"], "http://[::ffff:127.0.0.1]/o", None),
            (&["http://"], "http://[::1]/o", None),
            (&["http://"], "http://１２７.０.０.１/o", None),
            (&["http://"], "http://①②⑦.⓪.⓪.①/o", None),
            (&["http://"], "http://127。0。0。1/o", None),
            (&["http://"], "http://127.0.0.1\u{ad}/o", None),
            (&["http://"], "http://127.0.0.1./o", None),
            (&["http://"], "http://0x7f000001/o", None),
            (&["http://"], "HTTP://2852039166/latest", None),
            (&["http://"], "http://[::127.0.0.1]/o", None),
            (&["http://"], "http://[::ffff:a9fe:a9fe]/latest", None),
            (&["http://"], "http://[64:ff9b::a9fe:a9fe]/latest", None),
            (&["http://"], "http://[64:ff9b:1::a9fe:a9fe]/latest", None),
            (&["http://"], "http://[2002:7f00:1::1]/o", None),
            (&["http://"], "http://[2001:0:7f00:1::1]/o", None),
            (&["http://"], "http://[fe80::1%25eth0]/o", None),
            (&["http://"], "http://[fd00:ec2::254]/latest", None),
            // Names are judged when they are resolved, whatever they are written in.
            (&["http://"], "http://ⅼocalhost/o", Some(Addresses::Public)),
            (&["http://"], "http://140.82.121.3/o", Some(Addresses::Public)),
        ] {
            let verdict = list(prefixes).judge(url);
            assert_eq!(verdict.as_ref().ok().map(|(_, a)| *a), expected, "{prefixes:?} {url} {verdict:?}");
        }
    }

    #[test]
    fn special_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.1.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:8c52:7903::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "140.82.121.3",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:140.82.121.3",
            "64:ff9b::8c52:7903",
            "2001:4860:4860::8888",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
