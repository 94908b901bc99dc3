//! What an object refers to.

use treehold_object::{ByteSlice, Kind, ObjectId};

/// Calls `edge` for each object that `content` refers to, with the kind it must have there and the bytes of the name that it has there, if
/// any. Gitlinks are no edges, and only have a name.
///
/// Only what is needed to find the edges is judged; the error is the reason why they cannot be found.
pub(crate) fn each(
    kind: Kind,
    content: &[u8],
    parents: bool,
    edge: &mut dyn FnMut(Option<(ObjectId, Kind)>, usize),
) -> Result<(), &'static str> {
    match kind {
        Kind::Blob => Ok(()),
        Kind::Tree => tree(content, edge).ok_or("the tree is malformed"),
        Kind::Commit => commit(content, parents, edge).ok_or("the commit is malformed"),
        Kind::Tag => tag(content, edge).ok_or("the tag is malformed"),
    }
}

/// `<mode in octal> SP <name> NUL <20 bytes of id>`, repeated.
fn tree(mut content: &[u8], edge: &mut dyn FnMut(Option<(ObjectId, Kind)>, usize)) -> Option<()> {
    while !content.is_empty() {
        let space = content.iter().take(8).position(|byte| *byte == b' ')?;
        let mut mode = 0u32;
        for digit in &content[..space] {
            mode = mode * 8 + char::from(*digit).to_digit(8)?;
        }
        let end = content[space..].find_byte(0)? + space;
        let (oid, rest) = content[end + 1..].split_first_chunk::<20>()?;
        let target = match mode & 0o170_000 {
            0o040_000 => Some((ObjectId::Sha1(*oid), Kind::Tree)),
            0o100_000 | 0o120_000 => Some((ObjectId::Sha1(*oid), Kind::Blob)),
            // A commit of another repository: nothing that this one has to have.
            0o160_000 => None,
            _ => return None,
        };
        edge(target, end - space - 1);
        content = rest;
    }
    Some(())
}

fn commit(content: &[u8], parents: bool, edge: &mut dyn FnMut(Option<(ObjectId, Kind)>, usize)) -> Option<()> {
    let (tree, mut rest) = oid_line(content, b"tree ")?;
    edge(Some((tree, Kind::Tree)), 0);
    while rest.starts_with(b"parent ") {
        let (parent, after) = oid_line(rest, b"parent ")?;
        if parents {
            edge(Some((parent, Kind::Commit)), 0);
        }
        rest = after;
    }
    Some(())
}

fn tag(content: &[u8], edge: &mut dyn FnMut(Option<(ObjectId, Kind)>, usize)) -> Option<()> {
    let (target, rest) = oid_line(content, b"object ")?;
    let rest = rest.strip_prefix(b"type ")?;
    edge(Some((target, Kind::from_bytes(&rest[..rest.find_byte(b'\n')?]).ok()?)), 0);
    Some(())
}

fn oid_line<'a>(content: &'a [u8], name: &[u8]) -> Option<(ObjectId, &'a [u8])> {
    let (hex, rest) = content.strip_prefix(name)?.split_at_checked(40)?;
    Some((ObjectId::from_hex(hex).ok()?, rest.strip_prefix(b"\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(kind: Kind, content: &[u8], parents: bool) -> Result<Vec<(u8, Kind)>, &'static str> {
        let mut edges = Vec::new();
        each(kind, content, parents, &mut |edge, _| edges.extend(edge.map(|(oid, kind)| (oid.as_slice()[0], kind))))?;
        Ok(edges)
    }

    #[test]
    fn each_kind_has_its_edges() {
        let mut content = Vec::new();
        for (entry, id) in [(&b"100644 a\0"[..], 1), (b"40000 b c\0", 2), (b"160000 c\0", 3), (b"120000 d\0", 4)] {
            content.extend_from_slice(entry);
            content.extend_from_slice(&[id; 20]);
        }
        assert_eq!(edges(Kind::Tree, &content, true), Ok(vec![(1, Kind::Blob), (2, Kind::Tree), (4, Kind::Blob)]));
        let mut names = Vec::new();
        each(Kind::Tree, &content, true, &mut |_, name| names.push(name)).unwrap();
        assert_eq!(names, [1, 3, 1, 1]);
        for cut in 1..29 {
            assert!(edges(Kind::Tree, &content[..content.len() - cut], true).is_err());
        }
        let (a, b, c) = ("11".repeat(20), "22".repeat(20), "33".repeat(20));
        let commit = format!("tree {a}\nparent {b}\nparent {c}\nauthor x");
        let all = vec![(0x11, Kind::Tree), (0x22, Kind::Commit), (0x33, Kind::Commit)];
        assert_eq!(edges(Kind::Commit, commit.as_bytes(), false), Ok(all[..1].to_vec()));
        assert_eq!(edges(Kind::Commit, commit.as_bytes(), true), Ok(all));
        let tag = format!("object {a}\ntype tag\ntag x\n");
        assert_eq!(edges(Kind::Tag, tag.as_bytes(), true), Ok(vec![(0x11, Kind::Tag)]));
        assert_eq!(edges(Kind::Blob, b"tree", true), Ok(vec![]));
    }

    #[test]
    fn what_has_no_edges_to_find_is_refused() {
        let zeros = "0".repeat(39);
        for (kind, content) in [
            (Kind::Commit, "not a commit".to_owned()),
            (Kind::Commit, format!("tree {zeros}\n")),
            (Kind::Commit, format!("tree {zeros}0\nparent {zeros}\n")),
            (Kind::Tag, format!("object {zeros}0\ntype thing\n")),
            (Kind::Tag, format!("object {zeros}0\n")),
            (Kind::Tree, "100644".to_owned()),
            (Kind::Tree, format!("777 a\0{}", "x".repeat(20))),
            (Kind::Tree, format!("1006440000 a\0{}", "x".repeat(20))),
        ] {
            assert!(edges(kind, content.as_bytes(), true).is_err(), "{content:?}");
        }
    }
}
