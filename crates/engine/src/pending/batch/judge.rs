//! What an operation comes to, against the view that the operations before it left.

use bytes::Bytes;
use treehold_object::{BString, ObjectId};

use super::desk::{Desk, Set, Spot};
use super::ops::{Judged, Op, Refused, Verb};
use crate::api::{Mode, Oid, OnMismatch, OpConflict, OpStatus};
use crate::blocking;
use crate::files::base_of;
use crate::pending::change::based_on;
use crate::pending::text::{Patch, replace};
use crate::tree::{Base, FILE, Item, SYMLINK, merge_text};

fn missing(path: &BString) -> Refused {
    Refused::new("file_not_found", format!("There is no file at {path:?}."))
}

fn precondition(spot: &Spot) -> Refused {
    let has = spot.view.map_or("nothing".to_owned(), |item| item.oid.to_string());
    Refused::new(
        "precondition_failed",
        format!("The view has {has} there, not what the operation expects; read it again."),
    )
}

fn outcome(changed: bool, status: OpStatus) -> OpStatus {
    if changed { status } else { OpStatus::Duplicate }
}

/// Passes a refusal on.
macro_rules! pass {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}

/// Whether the operation does not show that its caller saw what the branch has.
fn is_blind(verb: &Verb, spot: &Spot) -> bool {
    match verb {
        Verb::Put(blob) => spot.head_oid() != Some(blob.oid),
        Verb::Delete => true,
        _ => false,
    }
}

impl Desk<'_> {
    /// Does an operation, or says why not.
    pub async fn judge(&mut self, op: &Op) -> Judged<OpStatus> {
        if let Some(base) = op.base
            && !self.known.contains(&base)
            && !self.texts.made.contains_key(&base)
        {
            return Ok(Err(Refused::new("unknown_base", "`base` names no object of this project.")));
        }
        let source = self.spot(op.source());
        if !op.condition.holds(source.view.map(|item| item.oid)) {
            return Ok(Err(precondition(&source)));
        }
        match self.expected(op, &source) {
            true => self.apply(op, OpStatus::Applied).await,
            false => self.reconcile(op, &source).await,
        }
    }

    /// Whether the view is what the operation starts from.
    fn expected(&self, op: &Op, source: &Spot) -> bool {
        let there = source.view.map(|item| item.oid);
        match (op.expects, op.base, self.rules.base_revision) {
            (Some(expected), _, _) => expected == there,
            (None, Some(base), _) => there == Some(base),
            (None, None, Some(seen)) => source.touched || source.row.as_ref().is_none_or(|row| row.revision <= seen),
            (None, None, None) => true,
        }
    }

    /// What a changed path starts from: the head, where the caller names its blob (which marks a conflict as resolved), else what the
    /// caller names beside what it expects, else what it started from before.
    fn base(&self, op: &Op, spot: &Spot) -> Base {
        let named = |base| based_on(base, spot.base, spot.head, op.mode.is_some());
        match (op.rebase, op.base) {
            (Some(base), _) => base,
            (None, Some(base)) if spot.head_oid() == Some(base) => named(base),
            (None, Some(base)) if op.expects.is_some() && spot.view.is_none_or(|item| item.oid != base) => named(base),
            // Who names nothing may have seen what a change of mode alone started from; other verbs read what the view has.
            (None, None) if op.expects.is_none() && !spot.touched && is_blind(&op.verb, spot) => {
                spot.row.as_ref().map_or(spot.base, base_of)
            }
            _ => spot.base,
        }
    }

    async fn apply(&mut self, op: &Op, status: OpStatus) -> Judged<OpStatus> {
        let spot = self.spot(&op.path);
        let base = self.base(op, &spot);
        let set = match &op.verb {
            Verb::Reset => return Ok(Ok(outcome(self.reset(&op.path), status))),
            Verb::Move => return self.rename(op, status).await,
            Verb::Put(blob) => {
                let mode = op.mode.or(spot.view.map(|item| Mode(item.mode))).unwrap_or(Mode(FILE)).0;
                let size = blob.content.len() as u64;
                self.texts.made.insert(blob.oid, blob.clone());
                Set { new: Some(Item { mode, oid: blob.oid }), size, base, pending: false }
            }
            Verb::Restore(item, size) => Set { new: *item, size: *size, base, pending: true },
            Verb::Delete => match spot.view {
                Some(_) => Set { new: None, size: 0, base, pending: false },
                None if spot.recorded => return Ok(Ok(OpStatus::Duplicate)),
                None => return Ok(Err(missing(&op.path))),
            },
            Verb::Chmod => {
                let Some(item) = spot.view else { return Ok(Err(missing(&op.path))) };
                let mode = op.mode.map_or(item.mode, |mode| mode.0);
                let size = self.size(&spot);
                Set { new: Some(Item { mode, ..item }), size, base, pending: spot.pending }
            }
            Verb::Edit { .. } | Verb::Patch(_) => {
                let text = match spot.view {
                    Some(item) => self.texts.text(self.engine, self.project, item.oid).await?,
                    None => None,
                };
                let made = pass!(self.edited(op, spot.view, text).await?);
                Set { new: made.0, size: made.1, base, pending: false }
            }
        };
        let changed = pass!(self.set(&op.path, set).await?);
        Ok(Ok(outcome(changed, status)))
    }

    fn size(&self, spot: &Spot) -> u64 {
        let foreseen = || spot.view.and_then(|item| self.sizes.get(&item.oid).copied());
        spot.size.or_else(foreseen).unwrap_or(0)
    }

    async fn rename(&mut self, op: &Op, status: OpStatus) -> Judged<OpStatus> {
        let (from, to) = (self.spot(op.source()), self.spot(&op.path));
        let Some(item) = from.view else { return Ok(Err(missing(op.source()))) };
        if to.view.is_some() {
            return Ok(Err(Refused::new("file_exists", format!("There is a file at {:?} already.", op.path))));
        }
        let mode = op.mode.map_or(item.mode, |mode| mode.0);
        let size = self.size(&from);
        let writes = self.writes.len();
        pass!(self.set(op.source(), Set { new: None, size: 0, base: from.base, pending: false }).await?);
        let set = Set { new: Some(Item { mode, ..item }), size, base: to.base, pending: from.pending };
        match self.set(&op.path, set).await? {
            Ok(_) => Ok(Ok(status)),
            Err(refused) => {
                // Neither half is done.
                self.writes.truncate(writes);
                if let Some(edits) = &mut self.edits {
                    edits.insert(op.source().clone(), from.view);
                }
                self.spots.insert(op.source().clone(), from);
                Ok(Err(refused))
            }
        }
    }

    /// The file that an edit or a diff makes of a text, and its size; `None` = it goes.
    async fn edited(&mut self, op: &Op, from: Option<Item>, text: Option<Bytes>) -> Judged<(Option<Item>, u64)> {
        let limit = self.engine.config.limits.file_bytes;
        if !self.texts.work_on(text.as_ref().map_or(0, Bytes::len)) {
            let detail = "The batch looks through too much text; send the rest of it as another one.";
            return Ok(Err(Refused::new("too_large", detail)));
        }
        let (made, goes, mode) = match &op.verb {
            Verb::Edit { old, new, all } => {
                let Some(text) = text else { return Ok(Err(missing(&op.path))) };
                let (old, new, all) = (old.clone(), new.clone(), *all);
                let made = blocking(move || Ok(replace(&text, &old, &new, all, limit))).await?;
                (pass!(made.map_err(Refused::from)), false, None)
            }
            Verb::Patch(diff) => {
                let diff = diff.clone();
                let there = text.is_some();
                let patched = blocking(move || {
                    Ok(Patch::parse(&diff).map(|patch| {
                        let made = patch.apply(text.as_deref().unwrap_or_default());
                        (patch.creates, patch.deletes, patch.mode, made)
                    }))
                });
                let (creates, deletes, mode, made) = pass!(patched.await?.map_err(Refused::from));
                if creates && there {
                    let detail = format!("The diff makes {:?}, which exists already.", op.path);
                    return Ok(Err(Refused::new("file_exists", detail)));
                }
                if !creates && !there {
                    return Ok(Err(missing(&op.path)));
                }
                (pass!(made.map_err(Refused::from)), deletes, mode)
            }
            _ => return Ok(Err(Refused::new("bad_op", "The operation edits no text."))),
        };
        if goes {
            return Ok(Ok((None, 0)));
        }
        let size = made.len() as u64;
        if size > limit {
            return Ok(Err(Refused::new("too_large", format!("The file is over the limit of {limit} bytes."))));
        }
        let mode = mode.map(|mode| mode.0).or(from.map(|item| item.mode)).unwrap_or(FILE);
        match self.texts.make(self.engine, made.into()) {
            Ok(oid) => Ok(Ok((Some(Item { mode, oid }), size))),
            Err(error) => Refused::of(error).map(Err),
        }
    }

    /// An operation whose start is not what the view has: done already, merged, or in conflict.
    async fn reconcile(&mut self, op: &Op, source: &Spot) -> Judged<OpStatus> {
        let merges = self.rules.on_conflict == OnMismatch::Merge;
        let base = op.base.or(op.expects.flatten());
        let refused = || Ok(Err(precondition(source)));
        match &op.verb {
            Verb::Delete if source.view.is_none() => Ok(Ok(OpStatus::Duplicate)),
            Verb::Delete if merges => Ok(Err(conflict(base, None, source.view))),
            Verb::Move if source.view.is_none() && base.is_some() => {
                match self.spot(&op.path).view.map(|item| item.oid) == base {
                    true => Ok(Ok(OpStatus::Duplicate)),
                    false => Ok(Err(missing(op.source()))),
                }
            }
            // Neither looks at the content.
            Verb::Chmod | Verb::Move if merges => self.apply(op, OpStatus::Merged).await,
            Verb::Edit { .. } | Verb::Patch(_) if merges && base.is_none() => self.apply(op, OpStatus::Merged).await,
            Verb::Put(blob) => {
                self.texts.made.insert(blob.oid, blob.clone());
                let mode = op.mode.or(source.view.map(|item| Mode(item.mode))).unwrap_or(Mode(FILE)).0;
                let sent = Item { mode, oid: blob.oid };
                match source.view == Some(sent) {
                    true => Ok(Ok(OpStatus::Duplicate)),
                    false if merges => self.merge(op, base, Some(sent), source).await,
                    false => refused(),
                }
            }
            Verb::Edit { .. } | Verb::Patch(_) => {
                let Some(base) = base.filter(|base| self.known.contains(base) || self.texts.made.contains_key(base))
                else {
                    return refused();
                };
                let text = self.texts.text(self.engine, self.project, base).await?;
                let from = source.view.map(|item| Item { oid: base, ..item });
                let (sent, _) = match self.edited(op, from, text).await? {
                    Ok(edited) => edited,
                    Err(refusal) => return if merges { Ok(Err(refusal)) } else { refused() },
                };
                match source.view == sent {
                    true => Ok(Ok(OpStatus::Duplicate)),
                    false if merges => self.merge(op, Some(base), sent, source).await,
                    false => refused(),
                }
            }
            _ => refused(),
        }
    }

    /// Merges what was sent into what the view has, as commits merge: line by line, and never what is no text or a link.
    async fn merge(&mut self, op: &Op, base: Option<ObjectId>, sent: Option<Item>, at: &Spot) -> Judged<OpStatus> {
        if sent.map(|item| item.oid) == base && sent.is_some() {
            return Ok(Ok(OpStatus::Duplicate));
        }
        // A blob that is not the project's is not read, whoever has it.
        let readable = base.filter(|base| self.known.contains(base) || self.texts.made.contains_key(base));
        let (Some(ours), Some(theirs), Some(base)) = (sent, at.view, readable) else {
            return Ok(self.conflict(op, base, sent, at));
        };
        let mut texts = Vec::with_capacity(3);
        for oid in [base, ours.oid, theirs.oid] {
            texts.extend(self.texts.text(self.engine, self.project, oid).await?);
        }
        let Ok([old, our_text, their_text]) = <[Bytes; 3]>::try_from(texts) else {
            return Ok(self.conflict(op, Some(base), sent, at));
        };
        let merged = match ours.mode == SYMLINK || theirs.mode == SYMLINK {
            true => None,
            false if ours.oid == theirs.oid => Some(their_text.to_vec()),
            false => blocking(move || Ok(merge_text(&old, &our_text, &their_text))).await?,
        };
        let Some(merged) = merged else { return Ok(self.conflict(op, Some(base), sent, at)) };
        let size = merged.len() as u64;
        let oid = self.texts.make(self.engine, merged.into())?;
        let set = Set { new: Some(Item { mode: ours.mode, oid }), size, base: at.base, pending: false };
        let changed = pass!(self.set(&op.path, set).await?);
        Ok(Ok(outcome(changed, OpStatus::Merged)))
    }

    /// Nothing changes, and what was sent is kept.
    fn conflict(
        &mut self,
        op: &Op,
        base: Option<ObjectId>,
        sent: Option<Item>,
        at: &Spot,
    ) -> std::result::Result<OpStatus, Refused> {
        if let (Some(item), false) = (sent, self.rules.atomic) {
            let size = self.texts.get(&item.oid).map_or(0, |text| text.len() as u64);
            // What the caller merely names is no reason to keep it alive: it may be anybody's.
            let ours = base.filter(|base| self.known.contains(base) || self.texts.made.contains_key(base));
            self.keep(&op.path, item, size, ours);
        }
        Err(conflict(base, sent, at.view))
    }
}

fn conflict(base: Option<ObjectId>, ours: Option<Item>, theirs: Option<Item>) -> Refused {
    let oid = |item: Option<Item>| item.map(|item| Oid(item.oid));
    let detail = "What was sent does not merge with what the view has; merge them, and send the result with `base` = the view's oid.";
    Refused {
        status: OpStatus::Conflict,
        conflict: Some(Box::new(OpConflict {
            base: base.map(Oid),
            ours: oid(ours),
            theirs: oid(theirs),
            version: None,
        })),
        ..Refused::new("conflict", detail)
    }
}
