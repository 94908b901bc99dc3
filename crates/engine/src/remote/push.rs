//! A push: exactly one request that changes anything, and what its outcome means.

use treehold_wire::push::{Command, PushCapabilities, PushOutcome, ReportReader, head};

use super::client::{AGENT, GitRemote, Place};
use super::hosts::Receive;
use super::http::Site;
use super::transport::{Answer, Body, Deadlines, Service, TransportError};
use super::{PushSpec, Pushed};

impl GitRemote {
    pub(super) async fn push_to(&self, place: &Place, spec: &PushSpec) -> Pushed {
        let capabilities = match place {
            Place::Local(_) => PushCapabilities::choose(None, AGENT),
            Place::Http(site) => match self.receive_capabilities(place, site).await {
                Ok(capabilities) => capabilities,
                Err(error) => return before_push(error),
            },
        };
        let command = Command { old: spec.old, new: Some(spec.new), name: spec.name.as_str().into() };
        let head = match head(&[command], &capabilities) {
            Ok(head) => head,
            Err(error) => return Pushed::Rejected(error.to_string()),
        };
        let body = Body { head: head.into(), pack: Some(spec.pack.clone()) };
        let deadlines = Deadlines::new(self.timeouts.push_idle, self.timeouts.transfer);
        match self.post(place, Service::ReceivePack, &body, deadlines).await {
            Ok(answer) => report(answer, capabilities.side_band(), spec).await,
            Err(error) => {
                if let (Place::Http(site), TransportError::Server(_) | TransportError::Invalid(_)) = (place, &error) {
                    // Perhaps it did not like what we asked for: ask it anew next time.
                    self.hosts.forget_receive(&site.origin());
                }
                error.into_pushed()
            }
        }
    }

    /// What to ask of the server. Only one that is not known to be git is asked what it can do, once.
    async fn receive_capabilities(&self, place: &Place, site: &Site) -> Result<PushCapabilities, TransportError> {
        let origin = site.origin();
        let offered = match self.hosts.receive(&origin) {
            Some(Receive::Git) => return Ok(PushCapabilities::choose(None, AGENT)),
            Some(Receive::Offers(offered)) => offered,
            None => {
                let told = self.ask(place, Service::ReceivePack).await?;
                if told.capabilities.value("object-format").is_some_and(|format| format != b"sha1") {
                    return Err(TransportError::Refused("the repository does not use SHA-1".into()));
                }
                self.hosts.learn_receive(origin, told.capabilities)
            }
        };
        Ok(PushCapabilities::choose(Some(&offered), AGENT))
    }
}

/// A failure while nothing had been pushed yet.
fn before_push(error: TransportError) -> Pushed {
    match error {
        TransportError::Broken(text) | TransportError::Server(text) => Pushed::Unreachable(text),
        TransportError::Invalid(text) => Pushed::Unreachable(format!("the answer is invalid: {text}")),
        TransportError::Timeout { .. } => TransportError::Timeout { sent: false }.into_pushed(),
        other => other.into_pushed(),
    }
}

/// Reads the report. If it is whole, then it counts, even if the connection breaks behind it.
async fn report(mut answer: Answer, side_band: bool, spec: &PushSpec) -> Pushed {
    let mut reader = ReportReader::new(side_band);
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => reader.push(&chunk),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    match (reader.finish().outcome(spec.name.as_bytes(), Some(&spec.new)), broken) {
        (PushOutcome::Ok { rewritten: None }, _) => Pushed::Landed,
        (PushOutcome::Ok { rewritten: Some(oid) }, _) => {
            Pushed::Unknown(format!("the remote made {oid} of what was pushed"))
        }
        (PushOutcome::Stale { message }, _) => Pushed::Stale(message),
        (PushOutcome::Hook { message } | PushOutcome::TooLarge { message } | PushOutcome::Refused { message }, _) => {
            Pushed::Rejected(message)
        }
        (PushOutcome::MissingObjects { message }, _) => Pushed::Lacking(message),
        (PushOutcome::Unknown { .. }, Some(error @ (TransportError::Timeout { .. } | TransportError::Broken(_)))) => {
            error.into_pushed()
        }
        (PushOutcome::Unknown { message }, _) => Pushed::Unknown(message),
    }
}
