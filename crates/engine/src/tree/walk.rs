//! Listing a tree in byte order of the path, from any point, reading only the trees on the way.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use treehold_object::{BString, ObjectId};

use super::{Item, entries, join};
use crate::{Engine, Result};

/// How many sibling trees are read ahead in one batch.
const READ_AHEAD: usize = 64;

/// Where a listing starts and what it covers.
#[derive(Debug, Clone, Default)]
pub(crate) struct WalkFrom {
    /// Only paths that start with these bytes (not necessarily a whole component).
    pub prefix: BString,
    /// Only paths after this one.
    pub after: Option<BString>,
}

impl WalkFrom {
    fn takes(&self, path: &[u8]) -> bool {
        path.starts_with(&self.prefix) && self.after.as_ref().is_none_or(|after| path > after.as_slice())
    }

    /// Whether the directory `dir` can hold a path that is taken.
    fn enters(&self, dir: &[u8]) -> bool {
        let mut lead = dir.to_vec();
        lead.push(b'/');
        let common = lead.len().min(self.prefix.len());
        lead[..common] == self.prefix[..common]
            && self.after.as_ref().is_none_or(|after| after.starts_with(&lead) || lead.as_slice() > after.as_slice())
    }
}

struct Frame {
    path: BString,
    entries: VecDeque<(BString, Item)>,
}

impl Engine {
    /// Up to `limit` non-tree entries of `root`, in byte order of the path.
    pub(crate) async fn walk(
        &self,
        root: Option<ObjectId>,
        from: &WalkFrom,
        limit: usize,
    ) -> Result<Vec<(BString, Item)>> {
        let mut listed = Vec::new();
        let Some(root) = root else { return Ok(listed) };
        let mut read: HashMap<ObjectId, Bytes> = self.trees(&[root]).await?;
        let mut stack = vec![frame(BString::default(), &read[&root], from)?];
        while let Some(top) = stack.last_mut() {
            let Some((name, item)) = top.entries.pop_front() else {
                stack.pop();
                continue;
            };
            let path = join(&top.path, &name);
            if !item.is_tree() {
                listed.push((path, item));
                if listed.len() == limit {
                    break;
                }
                continue;
            }
            if !read.contains_key(&item.oid) {
                let siblings = top.entries.iter().filter(|(_, item)| item.is_tree()).map(|(_, item)| item.oid);
                let ahead: Vec<ObjectId> =
                    std::iter::once(item.oid).chain(siblings.take(READ_AHEAD.min(limit - listed.len()))).collect();
                read.extend(self.trees(&ahead).await?);
            }
            // A tree may occur twice; what was read stays for its other places until the walk has gone on.
            let below = frame(path, &read[&item.oid], from)?;
            if read.len() > 64 * READ_AHEAD {
                read.clear();
            }
            stack.push(below);
        }
        Ok(listed)
    }
}

fn frame(path: BString, raw: &Bytes, from: &WalkFrom) -> Result<Frame> {
    let mut kept = VecDeque::new();
    for entry in entries(raw) {
        let (name, item) = entry?;
        let full = join(&path, name);
        if if item.is_tree() { from.enters(&full) } else { from.takes(&full) } {
            kept.push_back((name.to_owned(), item));
        }
    }
    Ok(Frame { path, entries: kept })
}
