//! A reader of the feed, at either server, that knows from it alone what is pending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use uuid::Uuid;

use super::api::Api;

/// What a device knows of its user's pending work.
#[derive(Debug, Default)]
pub struct Follower {
    pub pending: BTreeMap<String, Value>,
    pub revisions: BTreeSet<i64>,
    /// Changes that start from a commit since they were told: each takes a number of the workspace, and keeps its own.
    pub again: usize,
    /// Tips of main, as they were told.
    pub heads: Vec<Value>,
}

impl Follower {
    /// Polls each server in turn with one cursor, until it is told that nothing comes any more and has seen everything.
    pub async fn follow(mut self, api: Arc<Api>, user: Uuid, mut at: usize, over: Arc<AtomicBool>) -> Self {
        let url = format!("/projects/{}/changes?user={user}&limit=50", api.project);
        let mut cursor = "start".to_owned();
        loop {
            let last = over.load(Ordering::SeqCst);
            let wait = if last { 0 } else { 2 };
            let page = api.get(at, &format!("{url}&since={cursor}&wait={wait}")).await.json(200);
            let events = page["events"].as_array().expect("events");
            events.iter().for_each(|event| self.hears(event));
            page["next_cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
            if last && events.is_empty() && page["more"] == false {
                return self;
            }
            at = 1 - at;
        }
    }

    fn hears(&mut self, event: &Value) {
        if event["kind"] == "ref" && event["name"] == "refs/heads/main" {
            if let Some(head) = self.heads.last() {
                assert_eq!(&event["from"], head, "a move of main was skipped, or told twice: {event}");
            }
            self.heads.push(event["to"].clone());
        }
        if event["kind"] != "pending" {
            return;
        }
        let path = event["path"].as_str().expect("a path").to_owned();
        let revision = event["revision"].as_i64().expect("a revision");
        if !self.revisions.insert(revision) {
            // What was written after a commit took an older version starts from the commit now, and is told so.
            let known = &self.pending[&path];
            assert_eq!((&known["revision"], &known["oid"]), (&event["revision"], &event["oid"]), "told twice: {event}");
            assert_ne!(known["base_oid"], event["base_oid"], "told twice: {event}");
            self.again += 1;
        }
        match event["action"].as_str() {
            Some("dropped" | "committed") => _ = self.pending.remove(&path),
            _ => _ = self.pending.insert(path, event.clone()),
        }
    }
}
