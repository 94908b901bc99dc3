//! Why a command failed: one sentence that says what to do, and the exit status.

use std::error::Error;
use std::process::ExitCode;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// 1 = failed, 2 = wrong usage or configuration.
    pub status: u8,
    /// Stable name, as in the HTTP API's problems.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
    /// Causes, outermost first; shown with `--verbose`.
    pub causes: Vec<String>,
}

impl Failure {
    /// It was asked for, but did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { status: 1, code: "failed".into(), message: message.into(), causes: Vec::new() }
    }

    /// It was asked for in a wrong way.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { status: 2, code: "usage".into(), message: message.into(), causes: Vec::new() }
    }

    /// Adds the cause and its causes.
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause = cause.into();
        self.causes.extend(chain(cause.as_ref()));
        self
    }

    /// Shows it on stderr, with causes if `verbose`, and gives the exit status.
    pub fn report(&self, verbose: bool) -> ExitCode {
        eprintln!("error: {}", self.message);
        if verbose {
            for cause in &self.causes {
                eprintln!("  caused by: {cause}");
            }
        } else if !self.causes.is_empty() {
            eprintln!("  (add --verbose to see the causes)");
        }
        ExitCode::from(self.status)
    }
}

/// An error and its sources, each once.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = error.source();
    }
    texts
}

impl From<treehold_client::Error> for Failure {
    fn from(error: treehold_client::Error) -> Self {
        use treehold_client::Error as E;
        let (status, code) = match &error {
            E::Refused(problem) => (if problem.status == 400 { 2 } else { 1 }, problem.code.clone()),
            E::Transport(_) => (1, "unreachable".to_owned()),
            E::BadAnswer { .. } => (1, "bad_answer".to_owned()),
            E::SnapshotChanged => (1, "snapshot_changed".to_owned()),
            E::Usage(_) => (2, "usage".to_owned()),
        };
        let causes = error.source().map(chain).unwrap_or_default();
        Self { status, code, message: error.to_string(), causes }
    }
}

impl From<treehold_engine::EngineError> for Failure {
    fn from(error: treehold_engine::EngineError) -> Self {
        use treehold_engine::EngineError as E;
        let code = error.code().to_owned();
        let status = if matches!(error, E::BadRequest(_)) { 2 } else { 1 };
        let (message, causes) = match &error {
            E::Internal(cause) => (
                "an internal error occurred; repeat the command with --verbose and report what it shows".to_owned(),
                chain(cause.as_ref()),
            ),
            E::Unavailable { source, .. } | E::Damaged { source, .. } => (error.to_string(), chain(source.as_ref())),
            E::MergeConflict(conflicts) | E::Diverged(conflicts) => {
                let paths = conflicts.iter().map(|c| c.path.0.to_string());
                (error.to_string(), paths.collect())
            }
            _ => (error.to_string(), Vec::new()),
        };
        Self { status, code, message, causes }
    }
}
