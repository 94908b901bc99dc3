//! `POST git-receive-pack`: commands, a pack, a report.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::HeaderMap;
use tokio::sync::Notify;
use treehold_engine::{EngineError, PushedPack, SpoolWriter};
use treehold_wire::serve::{
    self, HeadReader, PushCapabilities, ReceiveHead, ReceiveLimits, RefStatus, Report, RequestError, SideBand,
};

use super::request::{PARSED_FACTOR, Source};
use super::{Service, packets, result};
use crate::app::{App, Reserved, Room};
use crate::error::Problem;
use crate::respond::Answer;

/// Bytes that are written to the spool file at once.
const PART: usize = 256 << 10;

pub(super) async fn answer(app: &App, project: &str, headers: &HeaderMap, body: Body) -> Answer {
    let mut source = Source::new(app, headers, body);
    let mut memory = None;
    let head = match read_head(app, &mut source, &mut memory).await? {
        Ok(head) => head,
        Err(error) => return Ok(whole(serve::error_response(&error.to_string()))),
    };
    if head.commands.is_empty() {
        return Ok(whole(Vec::new()));
    }
    let read = Arc::new(Notify::new());
    // Kept until the push is over: the table of its objects lasts as long.
    let room = app.room(1);
    let pack = match head.expects_pack() {
        true => Some(spool(app, source, Arc::clone(&read), Arc::clone(&room))?),
        false => None,
    };
    if pack.is_none() {
        read.notify_one();
    }
    let (app_, name, asked) = (app.clone(), project.to_owned(), head.clone());
    let mut received = Box::pin(async move {
        let engine = app_.engine().clone();
        let receiving = async move { engine.receive_pack(&name, &asked, pack, &()).await };
        let received = app_.remote(receiving).await.map_err(|problem| room.explain(problem));
        drop(memory);
        received
    });
    tokio::select! {
        biased;
        received = &mut received => {
            let report = received.or_else(|problem| failed(&head, problem))?;
            Ok(whole(reported(&report, &head.capabilities)))
        }
        () = read.notified() => {
            // All of the push is here. From now on the client hears that we are alive, however long it takes.
            let band = if head.capabilities.side_band_64k { SideBand::Large } else { SideBand::None };
            let (mut packets, body) = packets::open(band, Vec::new());
            app.spawn(async move {
                let report = received.await.or_else(|problem| failed(&head, problem));
                match report {
                    Ok(report) => packets.send(reported(&report, &head.capabilities)).await,
                    Err(problem) => packets.voice().give_up(&sentence(&problem)).await,
                }
            });
            Ok(result(Service::ReceivePack.result_type(), Body::from_stream(body)))
        }
    }
}

fn whole(body: Vec<u8>) -> Response {
    result(Service::ReceivePack.result_type(), Body::from(body))
}

fn sentence(problem: &Problem) -> String {
    problem.body()["detail"].as_str().unwrap_or("the push failed").to_owned()
}

/// Commands and what comes with them; what follows is given back to `source`.
async fn read_head(
    app: &App,
    source: &mut Source,
    memory: &mut Option<Reserved>,
) -> Result<Result<ReceiveHead, RequestError>, Problem> {
    let mut reader = HeadReader::new(ReceiveLimits::default());
    let mut empty = true;
    while !reader.is_complete() {
        let Some(mut chunk) = source.next().await? else { break };
        empty = false;
        match reader.push(&chunk) {
            Ok(len) => {
                app.reserve_more(memory, PARSED_FACTOR * len as u64)?;
                source.give_back(chunk.split_off(len));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(if empty { Ok(ReceiveHead::default()) } else { reader.finish() })
}

/// The pack, on its way into a spool file; `read` hears when all of it is there.
fn spool(app: &App, source: Source, read: Arc<Notify>, room: Arc<Room>) -> Result<PushedPack, Problem> {
    let (spool, arrival, writer) = app.engine().push_spool()?;
    let filling = Filling { source, writer, bytes_max: app.config().limits.pack_bytes, read };
    let rest = futures::stream::try_unfold(Some(filling), async |filling| match filling {
        Some(filling) => filling.part().await.map(Some),
        None => Ok(None),
    });
    Ok(PushedPack { spool, arrival, rest: rest.boxed(), room })
}

/// From the body into the spool file.
struct Filling {
    source: Source,
    writer: SpoolWriter,
    bytes_max: u64,
    read: Arc<Notify>,
}

impl Filling {
    /// Writes the next part; `None` in the second place after the last.
    async fn part(mut self) -> Result<(u64, Option<Self>), EngineError> {
        let (mut part, mut more) = (Vec::new(), true);
        while more && part.len() < PART {
            // The connection is broken, or the body: nobody will read why.
            let chunk = self.source.next().await.map_err(|problem| EngineError::BadRequest(sentence(&problem)))?;
            match chunk {
                Some(mut chunk) => part.append(&mut chunk),
                None => more = false,
            }
        }
        if self.writer.bytes() + part.len() as u64 > self.bytes_max {
            return Err(EngineError::TooLarge { what: "the pack", limit: self.bytes_max, unit: "bytes" });
        }
        let failed = |error| EngineError::Unavailable { what: "the spool disk", source: Box::new(error) };
        let bytes = self.writer.write(&part).await.map_err(failed)?;
        if more {
            return Ok((bytes, Some(self)));
        }
        self.writer.finish();
        self.read.notify_one();
        Ok((bytes, None))
    }
}

/// A push that failed on our side, as a report where that is what the client waits for.
fn failed(head: &ReceiveHead, problem: Problem) -> Result<Report, Problem> {
    // After a timeout the push goes on: that no ref moved would be too much said.
    if matches!(problem.status(), http::StatusCode::NOT_FOUND | http::StatusCode::GATEWAY_TIMEOUT) {
        return Err(problem);
    }
    let logged = problem.logged();
    tracing::warn!(code = logged.code, cause = logged.cause.as_deref().unwrap_or(""), "a push failed");
    let why = sentence(&problem);
    let status =
        |name: &treehold_object::BString| RefStatus { name: name.clone(), result: Err(why.clone()), rewrite: None };
    let refs = head.commands.iter().map(|command| status(&command.name)).collect();
    Ok(Report { unpack: Err(why.clone()), refs })
}

fn reported(report: &Report, capabilities: &PushCapabilities) -> Vec<u8> {
    let mut out = Vec::new();
    // Names come back as they were read, so that they fit.
    if let Err(error) = report.write(&mut out, capabilities) {
        tracing::warn!(%error, "a report could not be written");
    }
    serve::write_end(&mut out, capabilities);
    out
}
