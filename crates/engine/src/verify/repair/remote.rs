//! Copies at remotes: what a project's refs lead to is asked for, by name, where the project came from.
//!
//! A remote hears only ids of its own project, so that nobody's go to another one's (docs/reliability.md, law 5). It is asked as whom the
//! configuration says, where the allow-list lets it, and is believed in nothing: its pack is read within limits from a spool file, and of
//! that only what was asked for is looked at, by all that is known of it. One that is away or refuses is told, and ends nothing.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use treehold_catalog::{CatalogError, Project, ProjectKey, RoaringTreemap};
use treehold_object::{Kind, ObjectId, runs};
use treehold_wire::{IngestError, IngestLimits, IngestOptions, ingest};
use uuid::Uuid;

use super::{Search, Wanted};
use crate::Result;
use crate::remote::{Endpoint, FetchSpec, Fetching, RemoteError};
use crate::verify::finding::{Code, Damage};
use crate::verify::objects::WINDOW;
use crate::verify::{ROWS, Run};

/// Objects of one request.
const BATCH: usize = 512;
/// What an object whose size is not on record counts for when requests are made up, bytes.
const UNKNOWN: u64 = 1 << 20;
/// What a pack may have beyond what was asked for, where the remote knows no filter, bytes; and how many objects in all.
const SLACK: u64 = 64 << 20;
const OBJECTS_MAX: u64 = 200_000;
/// References to what is not in the pack, which are kept in memory: as many as the largest tree has.
const EXTERNAL_MAX: u64 = 4_000_000;
/// How much more all of it may be once it is unpacked.
const RATIO: u64 = 8;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Projects whose remotes are asked for what is looked for at once, beside those that are known to need it.
const PROJECTS_MAX: usize = 16;
/// Requests to the remote of one project in one run, and how many in a row may bring nothing: what was never pushed is refused.
const REQUESTS_MAX: u32 = 5_000;
const VAIN_MAX: u32 = 1_000;
/// How long the remote of one project may take in one run, all requests together, milliseconds.
const SPENT_MAX_MS: i64 = 2 * 3600 * 1000;
/// For so many of them counts one whose answer is no good, which may be long.
const INVALID_COUNTS: u32 = 50;

/// What a run knows of the remotes of projects.
#[derive(Debug, Default)]
pub(in crate::verify) struct Remotes(HashMap<Uuid, Asked>);

/// How one was asked so far.
#[derive(Debug, Default)]
struct Asked {
    requests: u32,
    /// Requests since the last one that brought something.
    vain: u32,
    /// How long they took, milliseconds.
    spent_ms: i64,
    /// It is not asked any more.
    silent: bool,
}

/// An object to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Want {
    oid: ObjectId,
    /// Objects of different ones do not go into one request.
    group: u8,
    /// Bytes, where that is on record.
    size: Option<u64>,
}

impl Want {
    fn of(wanted: &Wanted) -> Self {
        // Git leaves out a tree or blob that is wanted beside what refers to it.
        let group = match wanted.kind {
            Some(Kind::Blob) => 0,
            Some(Kind::Commit | Kind::Tag) | None => 1,
            Some(Kind::Tree) => 2,
        };
        Self { oid: wanted.oid, group, size: wanted.row.as_ref().map(|row| row.size) }
    }
}

/// One request each.
fn batches(mut wants: Vec<Want>) -> Vec<Vec<Want>> {
    wants.sort_unstable_by_key(|want| (want.group, want.oid));
    let groups = wants.chunk_by(|one, other| one.group == other.group);
    let windows = groups.flat_map(|group| runs(group, WINDOW, |want| want.size.unwrap_or(UNKNOWN)));
    windows.flat_map(|window| window.chunks(BATCH)).map(<[Want]>::to_vec).collect()
}

/// What to ask for after nothing came. Git refuses all for one object that it does not have, and names it; other servers may not.
fn split(mut wants: Vec<Want>, words: &str) -> Vec<Vec<Want>> {
    let named = wants.iter().position(|want| words.contains(&want.oid.to_string()));
    match named {
        Some(at) => _ = wants.swap_remove(at),
        None if wants.len() < 2 => wants.clear(),
        None => {}
    }
    let half = wants.split_off(wants.len() / 2);
    vec![wants, half]
}

impl Run<'_> {
    /// Asks the remotes of projects that need what is looked for, then those of other projects that reach it.
    pub(super) async fn search_remotes(&mut self, search: &mut Search) -> Result<()> {
        self.search_needed(search).await?;
        self.search_reaching(search).await
    }

    /// Asks the remotes of projects that need what is looked for.
    pub(super) async fn search_needed(&mut self, search: &mut Search) -> Result<()> {
        let mut needed: HashMap<Uuid, Vec<ObjectId>> = HashMap::new();
        for wanted in search.open.values() {
            if let Some(project) = wanted.project {
                needed.entry(project).or_default().push(wanted.oid);
            }
        }
        for (id, oids) in needed {
            if let Some(project) = self.engine.catalog.project(&ProjectKey::Id(id)).await? {
                self.ask(&project, search, &oids).await?;
            }
        }
        Ok(())
    }

    async fn search_reaching(&mut self, search: &mut Search) -> Result<()> {
        let (mut after, mut asked) = (None, 0);
        loop {
            let projects = self.engine.catalog.projects(after, ROWS).await?;
            let Some(last) = projects.last() else { return Ok(()) };
            after = Some(last.id);
            for project in projects.iter().filter(|project| project.remote_url.is_some()) {
                if search.open.is_empty() || asked >= PROJECTS_MAX {
                    return Ok(());
                }
                if self.remotes.0.get(&project.id).is_some_and(|asked| asked.silent) {
                    continue;
                }
                let oids = self.reached_of(project.id, search).await?;
                if !oids.is_empty() {
                    asked += 1;
                    self.ask(project, search, &oids).await?;
                }
            }
        }
    }

    /// What a project reaches of what is looked for and it was not asked for yet.
    async fn reached_of(&self, project: Uuid, search: &Search) -> Result<Vec<ObjectId>> {
        let others = search.open.values().filter(|wanted| wanted.project != Some(project));
        let numbered = others.filter_map(|wanted| Some((wanted.row.as_ref()?.number, wanted.oid)));
        let numbered: Vec<(u64, ObjectId)> = numbered.collect();
        if numbered.is_empty() {
            return Ok(Vec::new());
        }
        let reach = match self.engine.catalog.reach(project).await {
            Ok(reach) => reach,
            // Told when the project is looked at.
            Err(CatalogError::Invalid { .. }) => RoaringTreemap::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(numbered.into_iter().filter(|(number, _)| reach.contains(*number)).map(|(_, oid)| oid).collect())
    }

    /// Asks the remote of a project, which reaches all of these.
    async fn ask(&mut self, project: &Project, search: &mut Search, oids: &[ObjectId]) -> Result<()> {
        let Some(at) = self.engine.endpoint(project, None) else { return Ok(()) };
        let wants = oids.iter().filter_map(|oid| search.open.get(oid)).map(Want::of).collect();
        for batch in batches(wants) {
            let mut open = vec![batch];
            while let Some(batch) = open.pop() {
                if batch.is_empty() {
                    continue;
                }
                if !self.may_ask(project) {
                    return Ok(());
                }
                open.extend(self.ask_once(project, &at, search, batch).await?);
            }
        }
        Ok(())
    }

    /// Counts a request; `false`: there were enough.
    fn may_ask(&mut self, project: &Project) -> bool {
        let asked = self.remotes.0.entry(project.id).or_default();
        let (enough, vain) = (asked.requests >= REQUESTS_MAX, asked.vain >= VAIN_MAX);
        if asked.silent {
            return false;
        }
        if asked.spent_ms >= SPENT_MAX_MS {
            self.fall_silent(project, "it took too long; another run asks again");
            return false;
        }
        if enough || vain {
            let why = if vain { "brought nothing" } else { "were made" };
            let requests = if vain { asked.vain } else { asked.requests };
            self.fall_silent(project, &format!("{requests} requests {why}; another run asks again"));
            return false;
        }
        asked.requests += 1;
        asked.vain += 1;
        true
    }

    /// One request. What is to be asked for again is the answer.
    async fn ask_once(
        &mut self,
        project: &Project,
        at: &Endpoint,
        search: &mut Search,
        batch: Vec<Want>,
    ) -> Result<Vec<Vec<Want>>> {
        self.progress.step("asking remotes", batch.len() as u64, None);
        let began_ms = self.engine.ambient.now_ms();
        let brought = self.bring(at, &batch).await;
        let took_ms = self.engine.ambient.now_ms().saturating_sub(began_ms);
        self.remotes.0.entry(project.id).or_default().spent_ms += took_ms;
        match brought {
            Ok(brought) => {
                brought.into_iter().for_each(|(oid, kind, content)| search.offer(oid, kind, content));
                let left: Vec<Want> =
                    batch.iter().filter(|want| search.open.contains_key(&want.oid)).copied().collect();
                let found = batch.len() - left.len();
                if let Some(found) = search.take_window() {
                    search.rescued.extend(self.store_found(found).await?.into_keys());
                }
                if found == 0 {
                    return Ok(Vec::new());
                }
                self.remotes.0.entry(project.id).or_default().vain = 0;
                tracing::info!(project = %project.id, found, "the remote has copies of damaged or missing objects");
                Ok(vec![left])
            }
            Err(RemoteError::Refused(words)) => {
                tracing::debug!(project = %project.id, objects = batch.len(), %words, "the remote does not give these");
                Ok(split(batch, &words))
            }
            Err(error @ RemoteError::Invalid(_)) => {
                self.note(project, &error.to_string());
                self.remotes.0.entry(project.id).or_default().vain += INVALID_COUNTS;
                Ok(split(batch, ""))
            }
            Err(error) => {
                self.fall_silent(project, &error.to_string());
                Ok(Vec::new())
            }
        }
    }

    fn note(&mut self, project: &Project, why: &str) {
        tracing::warn!(project = %project.id, why, "a remote was asked for lost objects in vain");
        self.find(Damage::new(Code::RemoteSilent, why), project.id.to_string(), Some(project.id), false);
    }

    fn fall_silent(&mut self, project: &Project, why: &str) {
        self.note(project, why);
        self.remotes.0.entry(project.id).or_default().silent = true;
    }

    /// Fetches objects by name: those of them that came.
    async fn bring(
        &self,
        at: &Endpoint,
        wants: &[Want],
    ) -> std::result::Result<Vec<(ObjectId, Kind, Bytes)>, RemoteError> {
        let limits = self.limits_of(wants);
        let oids: Vec<ObjectId> = wants.iter().map(|want| want.oid).collect();
        let spec =
            FetchSpec { wants: oids.clone(), alone: true, pack_bytes_max: limits.pack_bytes, ..FetchSpec::default() };
        let arriving = async {
            let Fetching { pack, mut rest, .. } = self.engine.remote.fetch(at, &spec).await?;
            while rest.try_next().await?.is_some() {}
            Ok::<_, RemoteError>(pack)
        };
        let pack = tokio::time::timeout(PATIENCE, arriving).await.map_err(|_| RemoteError::Timeout)??;
        let reading = tokio::task::spawn_blocking(move || {
            let options = IngestOptions { limits, ..IngestOptions::default() };
            let quarantine = ingest(pack.reopen()?, &options)?;
            let mut brought = Vec::with_capacity(oids.len());
            for oid in oids {
                let object = quarantine.read(&oid)?;
                brought.extend(object.map(|(kind, content)| (oid, kind, content)));
            }
            Ok::<_, IngestError>(brought)
        });
        let read = reading.await.map_err(|error| RemoteError::Invalid(error.to_string()))?;
        read.map_err(|error| match error {
            IngestError::Io(error) => RemoteError::Spool(error),
            error => RemoteError::Invalid(error.to_string()),
        })
    }

    /// What a pack may cost that was asked for so much.
    fn limits_of(&self, wants: &[Want]) -> IngestLimits {
        let any = self.engine.config.limits.file_bytes;
        let (mut bytes, mut longest) = (SLACK, any);
        for want in wants {
            let size = want.size.unwrap_or(any);
            bytes = bytes.saturating_add(size);
            longest = longest.max(size);
        }
        IngestLimits {
            pack_bytes: bytes,
            objects: OBJECTS_MAX,
            object_bytes: longest,
            inflated_bytes: bytes.saturating_mul(RATIO),
            external: EXTERNAL_MAX,
            ..IngestLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(number: u8, group: u8, size: Option<u64>) -> Want {
        Want { oid: ObjectId::Sha1([number; 20]), group, size }
    }

    #[test]
    fn requests_are_of_one_group_and_bounded() {
        let mut wants: Vec<Want> = (0..9).map(|number| want(number, number % 3, Some(WINDOW / 2))).collect();
        wants.extend((0..200).map(|number| want(number, 0, Some(1))));
        let made = batches(wants.clone());
        assert_eq!(made.iter().map(Vec::len).sum::<usize>(), wants.len());
        for batch in &made {
            assert!(batch.iter().all(|want| want.group == batch[0].group) && batch.len() <= BATCH);
            assert!(batch.len() == 1 || batch.iter().filter_map(|want| want.size).sum::<u64>() <= WINDOW);
        }
        assert!(batches(Vec::new()).is_empty());
        assert_eq!(batches(vec![want(1, 0, None); 3 * BATCH]).len(), 3 * BATCH / 8, "of unknown size");
    }

    /// Goal: whatever is refused, and whether or not it is named, all others come; where it is named, after two requests for each at most.
    #[test]
    fn what_is_refused_keeps_nothing_else_away() {
        let refused = [3u8, 4, 17, 31];
        for named in [true, false] {
            let (mut open, mut came, mut requests) =
                (vec![(0..32).map(|n| want(n, 0, None)).collect::<Vec<_>>()], 0, 0);
            while let Some(batch) = open.pop() {
                if batch.is_empty() {
                    continue;
                }
                requests += 1;
                match batch.iter().find(|asked| refused.iter().any(|n| want(*n, 0, None) == **asked)) {
                    Some(first) => {
                        let words = if named { format!("not our ref {}", first.oid) } else { "no".to_owned() };
                        open.extend(split(batch, &words));
                    }
                    None => came += batch.len(),
                }
            }
            assert_eq!(came, 28, "named: {named}");
            assert!(!named || requests <= 2 * refused.len() + 1, "{requests}");
        }
    }
}
