//! `object-info`: the sizes of objects, without the objects.

use treehold_object::ObjectId;

use super::{Oids, RequestError, RequestLimits, unexpected};
use crate::pktline::{self, PktError};

/// One `object-info` command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectInfoRequest {
    /// Say the sizes, and not only which objects exist.
    pub size: bool,
    /// Which objects, each once.
    pub oids: Vec<ObjectId>,
}

impl ObjectInfoRequest {
    /// Appends the whole answer. `size_of` gives the size of an object's content in bytes.
    ///
    /// It gives `None` for what does not exist *or must not be seen*: both look the same.
    pub fn write_answer(
        &self,
        out: &mut Vec<u8>,
        mut size_of: impl FnMut(&ObjectId) -> Option<u64>,
    ) -> Result<(), PktError> {
        if self.size && !self.oids.is_empty() {
            pktline::write(out, b"size")?;
        }
        for oid in &self.oids {
            let line = match size_of(oid) {
                Some(size) if self.size => format!("{oid} {size}"),
                Some(_) => oid.to_string(),
                None => format!("{oid} "),
            };
            pktline::write(out, line.as_bytes())?;
        }
        out.extend_from_slice(pktline::FLUSH);
        Ok(())
    }
}

/// Takes the lines of the command.
#[derive(Debug)]
pub(super) struct ObjectInfoLines {
    limit: usize,
    size: bool,
    oids: Oids,
}

impl ObjectInfoLines {
    pub(super) fn new(limits: &RequestLimits) -> Self {
        Self { limit: limits.object_info, size: false, oids: Oids::default() }
    }

    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), RequestError> {
        if line == b"size" {
            self.size = true;
            return Ok(());
        }
        let hex = line.strip_prefix(b"oid ").ok_or_else(|| unexpected(line))?;
        let oid = ObjectId::from_hex(hex).map_err(|_| unexpected(line))?;
        self.oids.insert(oid, "objects to tell about", self.limit)
    }

    pub(super) fn finish(self) -> ObjectInfoRequest {
        ObjectInfoRequest { size: self.size, oids: self.oids.list }
    }
}
