//! What an operator would look at before and after a start: configuration, data directory, database, store, a running server.
//!
//! Nothing is made but a file and, in S3, a key of its own, both removed at once: a doctor leaves no traces.

mod elsewhere;
mod local;
mod reach;

use serde::Serialize;

use crate::elsewhere::Elsewhere;
use crate::settings::Settings;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but an operator should know.
    Warn,
    /// It will not work.
    Fail,
}

/// What was found where.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at; stable.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything, in the order in which a start needs it.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    match Elsewhere::named(settings) {
        Ok(None) => {}
        Ok(Some(elsewhere)) => return elsewhere::examine(&elsewhere).await,
        Err(failure) => {
            return vec![Finding::fail("settings", failure.message, "look at --server, --token and --api-key")];
        }
    }
    let mut findings = vec![local::keys(settings), local::remotes(settings), local::open_files(settings)];
    findings.extend(local::data_directory(settings));
    let served = reach::server(settings).await;
    findings.push(served.finding);
    findings.extend(reach::database(settings, served.at_work).await);
    findings.extend(reach::store(settings).await);
    findings
}
