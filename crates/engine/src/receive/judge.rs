//! What becomes of each command of a push.

use std::collections::{HashMap, HashSet};

use treehold_catalog::{Project, Ref};
use treehold_object::{BString, refname};
use treehold_wire::serve::{RefCommand, Report};

use super::{STALE, status};
use crate::view::branch_ref;

/// What a command that was fine is told when another one of an atomic push was not.
const ATOMIC: &str = "atomic push failed";
/// Refs that can be pushed.
const PUSHABLE: [&[u8]; 3] = [b"refs/heads/", b"refs/tags/", b"refs/notes/"];

/// Why commands were refused; those not named here are still to be carried out.
#[derive(Debug)]
pub(super) struct Verdicts {
    commands: Vec<RefCommand>,
    refused: HashMap<BString, String>,
    atomic: bool,
}

impl Verdicts {
    pub fn of(commands: &[RefCommand], atomic: bool) -> Self {
        Self { commands: commands.to_vec(), refused: HashMap::new(), atomic }
    }

    /// Refuses a command, and with it all others of an atomic push. The first reason stays.
    pub fn refuse(&mut self, command: &RefCommand, why: impl Into<String>) {
        self.refused.entry(command.name.clone()).or_insert(why.into());
        if self.atomic {
            self.refuse_all(ATOMIC);
        }
    }

    pub fn refuse_all(&mut self, why: &str) {
        for command in &self.commands {
            self.refused.entry(command.name.clone()).or_insert(why.to_owned());
        }
    }

    pub fn none_left(&self) -> bool {
        self.refused.len() == self.commands.len()
    }

    /// Those that were not refused.
    pub fn left<'a>(&self, commands: &'a [RefCommand]) -> Vec<&'a RefCommand> {
        commands.iter().filter(|command| !self.refused.contains_key(&command.name)).collect()
    }

    /// The pack was not taken in.
    pub fn unpack_failed(mut self, why: &str) -> Report {
        self.refuse_all("unpacker error");
        Report { unpack: Err(why.to_owned()), ..self.report() }
    }

    pub fn report(&self) -> Report {
        let result = |command: &RefCommand| self.refused.get(&command.name).map_or(Ok(()), |why| Err(why.clone()));
        let refs = self.commands.iter().map(|command| status(command, result(command)));
        Report { unpack: Ok(()), refs: refs.collect() }
    }

    /// Judges what can be judged before the pack is looked at: names, what the client takes the refs for, deletions, and that the
    /// project has no more than `refs_max` refs then, or than it has now.
    pub fn judge_names(&mut self, project: &Project, existing: &[Ref], commands: &[RefCommand], refs_max: usize) {
        let now: HashMap<&[u8], _> = existing.iter().map(|found| (found.name.as_bytes(), found.oid)).collect();
        // What goes away makes room for what comes; a deletion that is refused does not.
        let leaves = |command: &&RefCommand| {
            let there = command.old.is_some() && now.get(command.name.as_slice()).copied() == command.old;
            let allowed = !self.refused.contains_key(&command.name) && refuse_deletion(project, command).is_none();
            command.new.is_none() && there && allowed
        };
        let gone: HashSet<&[u8]> = commands.iter().filter(leaves).map(|command| command.name.as_slice()).collect();
        let mut taken = refname::Taken::default();
        let stays = existing.iter().map(|found| found.name.as_bytes()).filter(|name| !gone.contains(name));
        stays.for_each(|name| taken.insert(name));
        let mut count = existing.len().saturating_sub(gone.len());
        let most = refs_max.max(existing.len());
        for command in commands {
            let actual = now.get(command.name.as_slice()).copied();
            let refusal = match command.new {
                _ if actual != command.old => Some(STALE.to_owned()),
                None => refuse_deletion(project, command),
                Some(_) if actual.is_none() => {
                    let full = || format!("too many refs: a project may have {refs_max}");
                    refuse_name(command, &taken).or_else(|| (count >= most).then(full))
                }
                Some(_) => None,
            };
            match refusal {
                Some(why) => self.refuse(command, why),
                None if command.new.is_some() && actual.is_none() => {
                    taken.insert(&command.name);
                    count += 1;
                }
                None => {}
            }
        }
    }
}

fn refuse_deletion(project: &Project, command: &RefCommand) -> Option<String> {
    if command.name == branch_ref(&project.default_branch).as_bytes() {
        return Some("the default branch cannot be deleted".to_owned());
    }
    project.receive.deny_deletes.then(|| "deletion prohibited".to_owned())
}

fn refuse_name(command: &RefCommand, taken: &refname::Taken) -> Option<String> {
    let Ok(name) = std::str::from_utf8(&command.name) else { return Some("the name is not UTF-8".to_owned()) };
    if let Err(error) = refname::check_full(name) {
        return Some(format!("funny refname: {error}"));
    }
    if !PUSHABLE.iter().any(|prefix| command.name.starts_with(prefix)) {
        return Some("only branches, tags and notes can be pushed".to_owned());
    }
    let clash = taken.conflict(&command.name)?;
    Some(format!("cannot be beside {}", clash.existing()))
}
