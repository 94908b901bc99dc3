//! The catalog in PostgreSQL: any number of instances, one primary. Nothing here reads from a replica.

mod apply_at_once;
mod commit_at_once;
mod dialect;
mod enter;
mod open;
mod record;
mod wakeups;

#[path = "../sql/apply.rs"]
mod apply;
#[path = "../sql/attempts.rs"]
mod attempts;
#[path = "../sql/chains.rs"]
mod chains;
#[path = "../sql/checkpoints.rs"]
mod checkpoints;
#[path = "../sql/collect.rs"]
mod collect;
#[path = "../sql/commits.rs"]
mod commits;
#[path = "../sql/contents.rs"]
mod contents;
#[path = "../sql/feed.rs"]
mod feed;
#[path = "../sql/forks.rs"]
mod forks;
#[path = "../sql/graph.rs"]
mod graph;
#[path = "../sql/group.rs"]
mod group;
#[path = "../sql/hints.rs"]
mod hints;
#[path = "../sql/history.rs"]
mod history;
#[path = "../sql/inspect.rs"]
mod inspect;
#[path = "../sql/jobs.rs"]
mod jobs;
#[path = "../sql/ledger.rs"]
mod ledger;
#[path = "../sql/lookup.rs"]
mod lookup;
#[path = "../sql/pending.rs"]
mod pending;
#[path = "../sql/projects.rs"]
mod projects;
#[path = "../sql/publish.rs"]
mod publish;
#[path = "../sql/rebuild.rs"]
mod rebuild;
#[path = "../sql/refs.rs"]
mod refs;
#[path = "../sql/register.rs"]
mod register;
#[path = "../sql/repack.rs"]
mod repack;
#[path = "../sql/roots.rs"]
mod roots;
#[path = "../sql/settle.rs"]
mod settle;
#[path = "../sql/snapshots.rs"]
mod snapshots;
#[path = "../sql/thin.rs"]
mod thin;
#[path = "../sql/tokens.rs"]
mod tokens;
#[path = "../sql/usage.rs"]
mod usage;
#[path = "../sql/views.rs"]
mod views;
#[path = "../sql/vitals.rs"]
mod vitals;
#[path = "../sql/write.rs"]
mod write;

use commit_at_once::{land_at_once as land, prepare_at_once as prepare};
use dialect::*;
use enter::enter_chunk;
use open::PostgresCatalog as Db;
use record::record_chunk;

pub use open::{PostgresCatalog, PostgresOptions};
