//! Paths of URLs, encoded exactly once.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::error::{Error, Result};

/// Everything but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path of a route. What cannot be named in a URL is told when it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    text: String,
    wrong: Option<String>,
}

impl Route {
    /// Text of ours, such as `/projects`.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), wrong: None }
    }

    /// More text of ours.
    pub(crate) fn then(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// One segment: an id or a name.
    pub(crate) fn segment(mut self, name: &str) -> Self {
        // An empty one would be another route, and dots would be taken for steps in the tree of routes.
        if matches!(name, "" | "." | "..") {
            self.wrong = Some(format!("{name:?} is no id and no name"));
        }
        self.text.push('/');
        self.text.extend(percent_encode(name.as_bytes(), &RESERVED));
        self
    }

    /// A path from the root of a tree, or a ref. Its slashes stay, unless a component would be taken for a step in the tree of routes.
    pub(crate) fn path(mut self, path: &[u8]) -> Self {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let dots = parts.iter().any(|part| matches!(*part, b"." | b".."));
        if dots && parts.len() == 1 {
            self.wrong = Some("a file cannot be called `.` or `..`; give it another name".to_owned());
        }
        for (at, part) in parts.iter().enumerate() {
            self.text.push_str(if at > 0 && dots { "%2F" } else { "/" });
            self.text.extend(percent_encode(part, &RESERVED));
        }
        self
    }

    pub(crate) fn text(&self) -> Result<&str> {
        match &self.wrong {
            None => Ok(&self.text),
            Some(why) => Err(Error::Usage(why.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(path: &[u8]) -> String {
        Route::new("/f").path(path).text().unwrap().to_owned()
    }

    #[test]
    fn paths_are_encoded_once_and_survive_the_parser() {
        for (path, expected) in [
            (&b"a/b.md"[..], "/f/a/b.md"),
            (b"a b%20c", "/f/a%20b%2520c"),
            (b"a//b/", "/f/a//b/"),
            (b"\xff?#&+;\\", "/f/%FF%3F%23%26%2B%3B%5C"),
            ("\u{e9}".as_bytes(), "/f/%C3%A9"),
            (b"a/../b", "/f/a%2F..%2Fb"),
            (b"./a", "/f/.%2Fa"),
            (b"...", "/f/..."),
            (b".a/..b", "/f/.a/..b"),
            (b"%2e%2e/a", "/f/%252e%252e/a"),
        ] {
            assert_eq!(encoded(path), expected);
            let url = url::Url::parse(&format!("http://h{expected}")).unwrap();
            assert_eq!(url.path(), expected, "a parser changes it");
        }
    }

    #[test]
    fn names_that_would_be_another_route_are_refused() {
        for name in ["", ".", ".."] {
            assert!(Route::new("/projects").segment(name).text().is_err(), "{name:?}");
        }
        assert!(Route::new("/f").path(b"..").text().is_err());
        assert_eq!(Route::new("/projects").segment("a/b").then("/log").text().unwrap(), "/projects/a%2Fb/log");
    }
}
