//! URLs of submodules, by the rules of git's `check_submodule_url` and a little beyond.

use bstr::ByteSlice;

/// Whether git would act on the URL. Refused: what a command would take for an option, what has a line break in any
/// form, what has no host where it needs one, and relative URLs that climb over the host of what they are relative to.
pub(super) fn is_allowed(url: &[u8]) -> bool {
    if url.starts_with(b"-") || url.iter().any(|byte| b"\r\n".contains(byte)) {
        return false;
    }
    let is_relative = is_dot_slash(url, b".").is_some() || is_dot_slash(url, b"..").is_some();
    if is_relative || url.starts_with(b"git://") {
        let climbs = matches!(after_dot_dots(url), Some([b':' | b'/', ..]));
        return !has_encoded_line_break(url) && !climbs;
    }
    let schemes = ["http", "https", "ftp", "ftps"];
    let of_curl = schemes.iter().find_map(|scheme| {
        let rest = url.strip_prefix(scheme.as_bytes())?;
        // `https::<url>` is the same helper by another way.
        rest.strip_prefix(b"::").or_else(|| rest.starts_with(b"://").then_some(url))
    });
    of_curl.is_none_or(|url| !has_encoded_line_break(url) && is_normal(url))
}

/// What follows `dots` and a slash of either kind.
fn is_dot_slash<'a>(url: &'a [u8], dots: &[u8]) -> Option<&'a [u8]> {
    let rest = url.strip_prefix(dots)?;
    rest.first().filter(|byte| b"/\\".contains(byte)).map(|_| &rest[1..])
}

/// What follows the leading `../` and `./`, if there is a `../`.
fn after_dot_dots(mut url: &[u8]) -> Option<&[u8]> {
    let mut has_dot_dot = false;
    loop {
        if let Some(rest) = is_dot_slash(url, b"..") {
            (url, has_dot_dot) = (rest, true);
        } else if let Some(rest) = is_dot_slash(url, b".") {
            url = rest;
        } else {
            return has_dot_dot.then_some(url);
        }
    }
}

/// `%0a`, or `%0d` (which git lets pass).
fn has_encoded_line_break(url: &[u8]) -> bool {
    url.windows(3).any(|window| [&b"%0a"[..], b"%0d"].iter().any(|code| window.eq_ignore_ascii_case(code)))
}

/// Whether git's `url_normalize` takes it: scheme, host, port, and no path that climbs out of the root.
fn is_normal(url: &[u8]) -> bool {
    let Some((scheme, rest)) = url.split_once_str("://") else { return false };
    let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if scheme.is_empty() || !scheme.iter().all(is_scheme_byte) || !has_valid_escapes(url) {
        return false;
    }
    let end = rest.find_byteset(b"/?#").unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit_once_str("@").map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once_str(":") {
        Some((host, port)) if !port.contains(&b']') => (host, port),
        _ => (authority, &b""[..]),
    };
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%[]:!$&'()*+,;=".contains(byte);
    let host_is_valid = !host.is_empty() && host.iter().all(is_host_byte);
    host_is_valid && (port.is_empty() || is_port(port)) && stays_below_root(path)
}

/// 1 to 65,535, in at most five digits.
fn is_port(digits: &[u8]) -> bool {
    let is_number = digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    is_number && digits.to_str().is_ok_and(|digits| digits.parse::<u16>().is_ok_and(|port| port > 0))
}

fn has_valid_escapes(url: &[u8]) -> bool {
    url.find_iter("%").all(|at| {
        let digits = url.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    })
}

fn stays_below_root(path: &[u8]) -> bool {
    let path = &path[..path.find_byteset(b"?#").unwrap_or(path.len())];
    let mut depth = 0usize;
    path.split_str("/").skip(1).all(|component| {
        depth = match component {
            b"." => depth,
            b".." if depth == 0 => return false,
            b".." => depth - 1,
            _ => depth + 1,
        };
        true
    })
}
