use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::{ClearCause, ClearPending, ClearedRow, PendingOutcome, ProjectKey, PublishOutcome, Seen};

/// The seed of this run: `TREEHOLD_TEST_SEED`, or a new one. It is printed, so that a failure can be replayed.
pub(super) fn seed() -> u64 {
    let given = std::env::var("TREEHOLD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random());
    println!("TREEHOLD_TEST_SEED={seed}");
    seed
}

/// What a row of the model has: content, base, revision.
type ModelRow = (&'static str, Option<&'static str>, i64);

/// A workspace as it should be.
#[derive(Clone, Default)]
struct Model {
    revision: i64,
    rows: BTreeMap<String, ModelRow>,
    /// Versions by path, oldest first.
    history: BTreeMap<String, Vec<ModelRow>>,
    /// What was seen at paths, now or some time ago.
    seen: BTreeMap<String, Seen>,
}

const CONTENTS: [&str; 4] = ["one", "two", "three", "four"];
const PATHS: [&str; 5] = ["a", "a.b", "a/b", "b", "c"];

impl Model {
    fn replace(&mut self, path: &str, row: Option<ModelRow>) {
        if let Some(before) = self.rows.remove(path) {
            self.history.entry(path.to_owned()).or_default().push(before);
        }
        if let Some(row) = row {
            self.rows.insert(path.to_owned(), row);
        }
    }

    /// One write; what it answers, or `Err` if its expectation fails.
    fn write(&mut self, path: &str, expect: RowExpectation, content: Option<&'static str>) -> Result<Option<i64>, ()> {
        let current = self.rows.get(path).copied();
        match (expect, current) {
            (RowExpectation::Any, _) | (RowExpectation::Absent, None) => {}
            (RowExpectation::Row { .. }, Some((_, base, revision))) if expect == row_of(revision, base) => {}
            _ => return Err(()),
        }
        if current.map(|(content, base, _)| (content, base)) == content.map(|content| (content, Some("base"))) {
            return Ok(None);
        }
        self.revision += 1;
        self.replace(path, content.map(|content| (content, Some("base"), self.revision)));
        Ok(Some(self.revision))
    }

    fn settle(&mut self, taken: &[(String, i64, &'static str)]) {
        for (path, revision, content) in taken {
            let versions = self.history.get(path).into_iter().flatten();
            let started = versions.filter(|(.., at)| at == revision).map(|(_, base, _)| *base).next();
            match self.rows.get(path).copied() {
                Some((.., now)) if now == *revision => {
                    self.revision += 1;
                    self.replace(path, None);
                }
                // Not if it says by now what it starts from.
                Some((now, base, at)) if Some(base) == started && base != Some(content) => {
                    self.revision += 1;
                    self.rows.insert(path.clone(), (now, Some(content), at));
                }
                _ => {}
            }
        }
    }
}

/// Random writes, resets, settlements and clearings, each compared with a model in memory.
pub(super) async fn pending_follows_the_model(case: Case) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let key = case.workspace().await;
    let mut model = Model::default();
    let mut taken: Vec<(String, i64, &'static str)> = Vec::new();
    for step in 0..250 {
        match random.random_range(0..20) {
            0..15 => write(&case, &key, &mut model, &mut random).await,
            15 | 16 => {
                taken = model.rows.iter().map(|(path, row)| (path.clone(), row.2, row.0)).collect();
            }
            17 | 18 => settle(&case, &key, &mut model, &taken).await,
            _ => {
                let count = model.rows.len() as i64;
                for path in PATHS {
                    model.replace(path, None);
                }
                model.revision += count;
                let cleared = case.catalog.clear_pending(&key, &Origin::default(), NOW).await.expect("clear");
                let expected = if model.revision == 0 { (0, 0) } else { (model.revision, count as u64) };
                assert_eq!(cleared, expected, "seed {seed}, step {step}");
            }
        }
        compare(&case, &key, &model, &format!("seed {seed}, step {step}")).await;
    }
}

async fn write(case: &Case, key: &WorkspaceKey, model: &mut Model, random: &mut StdRng) {
    let mut after = model.clone();
    let (mut writes, mut answers, mut refused) = (Vec::new(), Vec::new(), None);
    for index in 0..random.random_range(1..4) {
        let path = PATHS[random.random_range(0..PATHS.len())];
        let expect = match random.random_range(0..8) {
            0 => RowExpectation::Absent,
            1 => row_of(random.random_range(0..model.revision + 2), Some("base")),
            2 | 3 => after.rows.get(path).map_or(RowExpectation::Absent, |row| row_of(row.2, row.1)),
            _ => RowExpectation::Any,
        };
        let content = (random.random_range(0..4) > 0).then(|| CONTENTS[random.random_range(0..CONTENTS.len())]);
        let write = content.map_or_else(|| reset(path), |content| edit(path, content));
        writes.push(PendingWrite { expect, ..write });
        if refused.is_none() {
            match after.write(path, expect, content) {
                Ok(answer) => answers.push(answer),
                Err(()) => refused = Some(index),
            }
        }
    }
    let outcome = match &writes[..] {
        [write] if random.random() => {
            let path = write.path.to_string();
            if !model.seen.contains_key(&path) || random.random() {
                let spot = looks::spot(ProjectKey::Id(key.project), Some(&key.branch), key.user, &path);
                let base = case.catalog.edit_base(&spot).await.expect("edit base").expect("a project");
                let seen = base.workspace.map(|workspace| Seen { workspace, revision: base.revision, row: base.row });
                model.seen.extend(seen.map(|seen| (path.clone(), seen)));
            }
            let expected = random.random::<bool>().then_some(model.revision);
            case.catalog.write_seen(key, model.seen.get(&path).cloned(), expected, write.clone(), NOW).await
        }
        _ => case.catalog.write_pending(key, Some(model.revision), &writes, NOW).await,
    };
    let outcome = outcome.expect("write");
    match refused {
        Some(index) => assert_eq!(outcome, PendingOutcome::Mismatch(index)),
        None => {
            assert_eq!(outcome, PendingOutcome::Written { revision: after.revision, rows: answers });
            *model = Model { seen: std::mem::take(&mut model.seen), ..after };
        }
    }
}

async fn settle(case: &Case, key: &WorkspaceKey, model: &mut Model, taken: &[(String, i64, &'static str)]) {
    let rows = taken.iter().map(|(path, revision, content)| ClearedRow {
        path: path.as_str().into(),
        revision: *revision,
        oid: Some(oid(content)),
    });
    let mut publish = publication(key.project, case.op(key.project).await, Vec::new());
    publish.clear_pending = Some(ClearPending {
        branch: key.branch.clone(),
        user: key.user,
        rows: rows.collect(),
        cause: ClearCause::Committed,
    });
    assert_eq!(case.catalog.publish(&publish).await.expect("publish"), PublishOutcome::Published);
    model.settle(taken);
}

async fn compare(case: &Case, key: &WorkspaceKey, model: &Model, at: &str) {
    let (revision, rows) = case.catalog.pending(key, None).await.expect("pending");
    assert_eq!(revision, model.revision, "{at}");
    let rows: Vec<_> =
        rows.into_iter().map(|row| (row.path.to_string(), row.oid, row.base_oid, row.revision)).collect();
    let expected: Vec<_> = model
        .rows
        .iter()
        .map(|(path, (content, base, revision))| (path.clone(), Some(oid(content)), base.map(oid), *revision))
        .collect();
    assert_eq!(rows, expected, "{at}");
    for path in PATHS {
        let history = case.catalog.pending_history(key, &path.into(), 1000).await.expect("history");
        let history: Vec<_> = history.into_iter().rev().map(|old| old.row.oid).collect();
        let expected: Vec<_> =
            model.history.get(path).into_iter().flatten().map(|(content, ..)| Some(oid(content))).collect();
        assert_eq!(history, expected, "{at}, history of {path}");
    }
}
