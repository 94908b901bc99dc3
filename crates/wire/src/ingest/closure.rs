//! What refs lead to within a pack: a pack may hold more, and that is nobody's.

use std::collections::HashSet;

use treehold_object::{Kind, ObjectId};

use super::quarantine::Quarantine;
use super::scan::damaged;
use super::{IngestError, edges};

impl Quarantine {
    /// What of the pack `tips` lead to, themselves included; history ends at `shallow`. `None`: all that came, which is told without
    /// reading anything. What lies beyond an object that the pack does not have is not followed.
    pub fn reached(
        &self,
        tips: &[ObjectId],
        shallow: &HashSet<ObjectId>,
    ) -> Result<Option<Vec<ObjectId>>, IngestError> {
        // Of objects that no tip leads to, at least one is referred to by nothing: ids leave no room for circles.
        let wanted: HashSet<&ObjectId> = tips.iter().collect();
        if self.unreferred().all(|oid| wanted.contains(&oid)) {
            return Ok(None);
        }
        let mut seen = vec![false; self.entries()];
        let mut open = Vec::new();
        let mut reached = Vec::new();
        let mut meet = |oid: &ObjectId, open: &mut Vec<u32>| {
            let new = self.position(oid).filter(|at| !std::mem::replace(&mut seen[*at as usize], true));
            open.extend(new);
        };
        tips.iter().for_each(|tip| meet(tip, &mut open));
        while let Some(at) = open.pop() {
            let object = self.object(at);
            reached.push(object.oid);
            if object.kind == Kind::Blob {
                continue;
            }
            let (_, content) = self.read(&object.oid)?.ok_or_else(|| damaged(object.offset, "it is gone"))?;
            let parents = !shallow.contains(&object.oid);
            edges::each(object.kind, &content, parents, &mut |edge, _| {
                edge.into_iter().for_each(|(oid, _)| meet(&oid, &mut open))
            })
            .map_err(|what| damaged(object.offset, what))?;
        }
        Ok(Some(reached))
    }
}
