//! Which URLs are repositories on GitHub.

use url::{Origin, Url};

/// A repository, as a URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) owner: String,
    pub(crate) name: String,
}

impl Repository {
    /// GitHub does not tell names by their case.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.owner, self.name).to_ascii_lowercase()
    }
}

/// The API's URL, without a slash at its end.
pub(crate) fn api_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !plain || !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// Where the repositories of an API are: `api.github.com` is the API of `github.com`, `api.NAME.ghe.com` that of `NAME.ghe.com`; an
/// Enterprise server has its API on its own host, whatever that is called, below a path.
pub(crate) fn site_of(api: &Url) -> Origin {
    let mut site = api.clone();
    let host = api.host_str().filter(|_| api.path() == "/");
    if let Some(host) = host.and_then(|host| host.strip_prefix("api."))
        && site.set_host(Some(host)).is_err()
    {
        return api.origin();
    }
    site.origin()
}

/// The repository that a URL names, if it is one of this site.
pub(crate) fn repository(site: &Origin, text: &str) -> Option<Repository> {
    let url = Url::parse(text).ok()?;
    if url.origin() != *site || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    let mut parts = url.path().trim_matches('/').split('/');
    let (owner, name, None) = (parts.next()?, parts.next()?, parts.next()) else { return None };
    let name = match name.get(name.len().saturating_sub(4)..) {
        Some(suffix) if suffix.eq_ignore_ascii_case(".git") => &name[..name.len() - 4],
        _ => name,
    };
    let plain = |part: &str| {
        !part.is_empty()
            && part.len() <= 100
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    (plain(owner) && plain(name)).then(|| Repository { owner: owner.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(api: &str, url: &str) -> Option<String> {
        repository(&site_of(&api_url(api)?), url).map(|found| found.key())
    }

    #[test]
    fn repositories_are_on_the_host_of_their_api() {
        let public = "https://api.github.com";
        for url in ["https://github.com/O/R.js", "https://GitHub.com/o/r.js.git", "https://github.com:443/o/r.js/"] {
            assert_eq!(found(public, url).as_deref(), Some("o/r.js"), "{url}");
        }
        for url in [
            "http://github.com/o/r",
            "https://github.com.evil.example/o/r",
            "https://api.github.com/o/r",
            "https://gitlab.com/o/r",
            "https://github.com/o",
            "https://github.com/o/r/tree",
            "https://github.com/o/%2e%2e",
            "https://github.com/o/r?x",
            "https://github.com/o/.git",
            "/o/r",
        ] {
            assert_eq!(found(public, url), None, "{url}");
        }
        assert_eq!(found("https://ghe.example/api/v3/", "https://ghe.example/o/r").as_deref(), Some("o/r"));
        assert_eq!(found("https://api.acme.ghe.com", "https://acme.ghe.com/o/r").as_deref(), Some("o/r"));
        let named = "https://api.corp.example/api/v3";
        assert_eq!(found(named, "https://api.corp.example/o/r").as_deref(), Some("o/r"));
        assert_eq!(found(named, "https://corp.example/o/r"), None);
        assert_eq!(found("http://127.0.0.1:81/api/v3", "http://127.0.0.1:82/o/r"), None);
        for bad in ["github.com", "ftp://x/", "https://u:p@x/", "https://x/?q", ""] {
            assert_eq!(api_url(bad), None, "{bad}");
        }
    }
}
