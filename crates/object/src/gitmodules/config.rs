//! Git's configuration syntax (git-config, "Syntax"), read one setting at a time.

use bstr::ByteSlice;

/// One `key = value` with the section that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// As in `[section]`.
    pub(super) section: Vec<u8>,
    /// As in `[section "subsection"]`; the old `[section.subsection]` counts too.
    pub(super) subsection: Option<Vec<u8>>,
    /// As written; case does not matter.
    pub(super) key: Vec<u8>,
    /// `None` for a key without `=`.
    pub(super) value: Option<Vec<u8>>,
}

/// The settings up to the end or the first syntax error.
pub(super) fn settings(content: &[u8]) -> impl Iterator<Item = Setting> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut reader = Reader { rest: content, section: Vec::new(), subsection: None };
    std::iter::from_fn(move || reader.next_setting())
}

struct Reader<'a> {
    rest: &'a [u8],
    section: Vec<u8>,
    subsection: Option<Vec<u8>>,
}

impl Reader<'_> {
    /// The next byte; CR LF counts as LF.
    fn next_byte(&mut self) -> Option<u8> {
        let (byte, rest) = match self.rest {
            [b'\r', b'\n', rest @ ..] => (b'\n', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        self.rest = rest;
        Some(byte)
    }

    fn skip_line(&mut self) {
        let end = self.rest.find_byte(b'\n').map_or(self.rest.len(), |end| end + 1);
        self.rest = &self.rest[end..];
    }

    fn next_setting(&mut self) -> Option<Setting> {
        loop {
            match self.next_byte()? {
                b'#' | b';' => self.skip_line(),
                b'[' => self.read_section()?,
                byte if is_space(byte) => {}
                byte if byte.is_ascii_alphabetic() => return self.read_setting(byte),
                _ => return self.fail(),
            }
        }
    }

    /// A syntax error: nothing after it is read.
    fn fail<T>(&mut self) -> Option<T> {
        self.rest = &[];
        None
    }

    fn read_section(&mut self) -> Option<()> {
        let mut name = Vec::new();
        self.subsection = None;
        loop {
            match self.next_byte()? {
                b']' => break,
                byte if byte.is_ascii_alphanumeric() || b"-.".contains(&byte) => name.push(byte),
                byte if is_space(byte) => {
                    self.subsection = Some(self.read_subsection(byte)?);
                    break;
                }
                _ => return self.fail(),
            }
        }
        if self.subsection.is_none()
            && let Some((section, subsection)) = name.split_once_str(".")
        {
            (self.subsection, name) = (Some(subsection.to_ascii_lowercase()), section.to_vec());
        }
        self.section = name;
        Some(())
    }

    fn read_subsection(&mut self, mut byte: u8) -> Option<Vec<u8>> {
        while is_space(byte) {
            if byte == b'\n' {
                return self.fail();
            }
            byte = self.next_byte()?;
        }
        if byte != b'"' {
            return self.fail();
        }
        let mut subsection = Vec::new();
        loop {
            match self.next_byte()? {
                b'\n' => return self.fail(),
                b'"' => break,
                b'\\' => match self.next_byte()? {
                    b'\n' => return self.fail(),
                    escaped => subsection.push(escaped),
                },
                byte => subsection.push(byte),
            }
        }
        if self.next_byte()? == b']' { Some(subsection) } else { self.fail() }
    }

    fn read_setting(&mut self, first: u8) -> Option<Setting> {
        let mut key = vec![first];
        let mut next = self.next_byte();
        while let Some(byte) = next.filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            key.push(byte);
            next = self.next_byte();
        }
        while next.is_some_and(|byte| b" \t".contains(&byte)) {
            next = self.next_byte();
        }
        let value = match next {
            None | Some(b'\n') => None,
            Some(b'=') => Some(self.read_value()?),
            Some(_) => return self.fail(),
        };
        Some(Setting { section: self.section.clone(), subsection: self.subsection.clone(), key, value })
    }

    /// Up to the end of the line: quotes and escapes undone, comments and the spaces around the value dropped.
    fn read_value(&mut self) -> Option<Vec<u8>> {
        let (mut value, mut kept, mut is_quoted) = (Vec::new(), 0, false);
        loop {
            match self.next_byte() {
                None | Some(b'\n') if is_quoted => return self.fail(),
                None | Some(b'\n') => break,
                Some(b'#' | b';') if !is_quoted => {
                    self.skip_line();
                    break;
                }
                Some(byte) if is_space(byte) && !is_quoted => {
                    if !value.is_empty() {
                        value.push(byte);
                    }
                    continue;
                }
                Some(b'"') => is_quoted = !is_quoted,
                Some(b'\\') => match self.next_byte() {
                    Some(b'\n') => {}
                    Some(b't') => value.push(b'\t'),
                    Some(b'b') => value.push(8),
                    Some(b'n') => value.push(b'\n'),
                    Some(escaped @ (b'\\' | b'"')) => value.push(escaped),
                    _ => return self.fail(),
                },
                Some(byte) => value.push(byte),
            }
            kept = value.len();
        }
        value.truncate(kept);
        Some(value)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax() {
        let text = "\u{feff}# c\n; c\n[a]\nk = v # c\n[Sub \"x\\\"y\\z\"]\r\n\tflag\n  url=\" a b \" ; c\nq = a\\\n b\\t\\n\n[old.Name] z=1\n[a]! x=1\n";
        let found: Vec<String> = settings(text.as_bytes())
            .map(|setting| {
                let text = |bytes: &[u8]| bytes.to_str_lossy().into_owned();
                let subsection = setting.subsection.map(|name| text(&name));
                let value = setting.value.map(|value| text(&value));
                format!("{}.{:?}.{}={:?}", text(&setting.section), subsection, text(&setting.key), value)
            })
            .collect();
        assert_eq!(
            found,
            [
                r#"a.None.k=Some("v")"#,
                r#"Sub.Some("x\"yz").flag=None"#,
                r#"Sub.Some("x\"yz").url=Some(" a b ")"#,
                r#"Sub.Some("x\"yz").q=Some("a b\t\n")"#,
                r#"old.Some("name").z=Some("1")"#,
            ]
        );
        for broken in ["[a", "[a \"x]\n", "[a b]\n", "1 = 2\n", "[a]\nk = \"v\n", "[a]\nk = \\x\n", "[a]\nk + v\n", "]"]
        {
            assert_eq!(settings(broken.as_bytes()).next(), None, "{broken:?}");
        }
    }
}
