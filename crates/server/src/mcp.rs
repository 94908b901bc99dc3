//! Where the tools of the Model Context Protocol run: each call as a request of its own, in the class and within the limits of the route
//! that does the same.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use treehold_engine::{Engine, EngineError};
use treehold_mcp::{Binding, Counted, Host, Refusal, Tools, Work};

use crate::admission::{self, Class, Current, Key};
use crate::app::{App, Reserved};
use crate::error::Problem;
use crate::rates::Payer;

/// Memory for the answers of one request; kept until it is sent.
pub(crate) type Kept = Arc<Mutex<Vec<Reserved>>>;

/// Runs the tools' verbs on an [`App`].
#[derive(Debug, Clone)]
pub struct McpHost {
    app: App,
    key: Key,
    /// The request at work, if the calls are part of one.
    current: Option<Current>,
    kept: Option<Kept>,
    /// Who pays for calls, where there are rates.
    payer: Option<Payer>,
    /// The request's: its library works in tasks of its own.
    span: Span,
}

impl McpHost {
    /// For a connection that is no request.
    pub fn new(app: App, project: &str) -> Self {
        let key = admission::key_of(project.as_bytes());
        Self { app, key, current: None, kept: None, payer: None, span: Span::current() }
    }

    /// For the request at work, which keeps what its answer is made from.
    pub(crate) fn within_request(self, kept: Kept) -> Self {
        Self { current: admission::current(), kept: Some(kept), ..self }
    }

    /// The same, whose calls are counted.
    pub(crate) fn paid_by(self, payer: Payer) -> Self {
        Self { payer: Some(payer), ..self }
    }

    /// The place that a call works in: its own, unless it is light and the request has one.
    async fn place(&self, work: Work) -> Result<Current, Problem> {
        let class = match (work, &self.current) {
            (Work::Light | Work::Write, Some(current)) => return Ok(current.clone()),
            (Work::Light | Work::Write, None) => Class::Light,
            (Work::Batch { .. }, _) => Class::Batch,
            (Work::Remote, _) => Class::Commit,
        };
        admission::enter(self.app.admission(), class, self.key).await
    }

    async fn work<T, V, F>(&self, work: Work, verb: V) -> Result<T, Problem>
    where
        T: Send + 'static,
        V: FnOnce(Engine) -> F + Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        // What a verb keeps between its steps is too much for the stacks of all those who wait for it.
        let verb = |engine: Engine| Box::pin(verb(engine));
        match work {
            Work::Light => self.app.reading(verb(self.app.engine().clone())).await,
            Work::Write => self.app.writing_within(verb).await,
            Work::Remote => self.app.remote(verb(self.app.engine().clone())).await,
            Work::Batch { factor, bytes } => {
                let memory = self.app.reserve(bytes)?;
                let (app, current) = (self.app.clone(), admission::current());
                let read = async move {
                    match factor {
                        0 => app.reading(verb(app.engine().clone())).await,
                        // What was read is gone when the answer is made.
                        _ => app.reading_within(factor, verb).await.map(|(read, _room)| read),
                    }
                };
                let read = self.app.heavy().run(admission::in_name_of(current, read)).await?;
                if let Some(kept) = &self.kept {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
                }
                Ok(read)
            }
        }
    }
}

impl Host for McpHost {
    fn engine(&self) -> &Engine {
        self.app.engine()
    }

    fn count(&self, call: Counted) -> Result<(), Refusal> {
        let Some(payer) = &self.payer else { return Ok(()) };
        payer.count(&self.app, call).map_err(|problem| {
            let seconds = problem.seconds_to_wait();
            let mut refusal = refusal(&problem);
            refusal.details.extend(seconds.map(|seconds| ("retry_after".to_owned(), seconds.into())));
            refusal
        })
    }

    async fn run<T, V, F>(&self, work: Work, verb: V) -> Result<T, Refusal>
    where
        T: Send + 'static,
        V: FnOnce(Engine) -> F + Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        // Over a connection that is no request, each call is traced by itself.
        let span = if self.span.is_none() { treehold_calls::span::root("agent's call") } else { self.span.clone() };
        let done = async {
            let place = self.place(work).await?;
            admission::in_name_of(Some(place), Box::pin(self.work(work, verb))).await
        };
        done.instrument(span).await.map_err(|problem: Problem| refusal(&problem))
    }
}

/// What a problem says, without what only HTTP needs.
fn refusal(problem: &Problem) -> Refusal {
    let Value::Object(mut details) = problem.told() else { return Refusal::new(problem.code(), "") };
    for name in ["type", "title", "status", "code"] {
        details.remove(name);
    }
    let detail = details.remove("detail").and_then(|detail| detail.as_str().map(str::to_owned)).unwrap_or_default();
    Refusal { code: problem.code().to_owned(), detail, details }
}

/// Serves the tools to one client over bytes: a message per line, as on stdio. Fails with a sentence if the protocol was not kept.
pub async fn mcp_over(
    app: &App,
    binding: Binding,
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    stop: CancellationToken,
) -> Result<(), String> {
    let host = McpHost::new(app.clone(), &binding.project);
    treehold_mcp::serve_stream(Tools::new(host, binding), read, write, stop).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_what_the_problem_has() {
        let problem = Problem::from(EngineError::TooLarge { what: "the file", limit: 9, unit: "bytes" });
        let told = refusal(&problem);
        assert_eq!((told.code.as_str(), told.detail.as_str()), ("too_large", "the file is over the limit of 9 bytes"));
        assert_eq!((&told.details["limit"], told.details.len()), (&9.into(), 3));
    }
}
