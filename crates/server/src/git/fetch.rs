//! `POST git-upload-pack`: refs, what is common, and packs.

use axum::body::Body;
use axum::response::Response;
use treehold_engine::Upload;
use treehold_wire::serve::{
    self, Command, FetchArguments, FetchStep, LsRefsRequest, ObjectInfoRequest, Protocol, RequestError, RequestLimits,
    SideBand,
};
use uuid::Uuid;

use super::packets::{self, Packets};
use super::request::Read;
use super::{Service, result};
use crate::app::{App, Reserved};
use crate::context::holding;
use crate::error::Problem;
use crate::respond::Answer;

/// What a pack under way holds: parts on their way from the bucket and to the client.
const UPLOAD_BYTES: u64 = 6 << 20;

/// What a ref for somebody's uncommitted work is called.
const PENDING: &[u8] = b"refs/pending/";
/// Most of them that are made for one request.
const PENDING_MAX: usize = 16;

/// Who asks for what.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub app: &'a App,
    pub project: &'a str,
    /// Wants to see branches that end by themselves.
    pub ephemeral: bool,
    /// May have uncommitted work, if named.
    pub pending: bool,
}

impl Asker<'_> {
    pub async fn answer(self, protocol: Protocol, request: Read) -> Answer {
        let limits = RequestLimits::default();
        match protocol {
            Protocol::V2 => match serve::parse_request(&request.bytes, &limits) {
                Ok(None) => Ok(whole(Vec::new())),
                Ok(Some(request)) => match request.command {
                    Command::LsRefs(request) => self.ls_refs(&request).await,
                    Command::ObjectInfo(request) => self.object_info(&request).await,
                    Command::Fetch(arguments) => self.fetch(arguments).await,
                },
                Err(error) => Ok(refused(&error)),
            },
            Protocol::V0 | Protocol::V1 => match serve::parse_upload_request(&request.bytes, &limits) {
                Ok(request) => self.legacy(request).await,
                Err(error) => Ok(refused(&error)),
            },
        }
    }

    async fn ls_refs(self, request: &LsRefsRequest) -> Answer {
        let (app, project) = (self.app, self.project);
        let (named, peel, ephemeral) = (project.to_owned(), request.peel, self.ephemeral);
        let read = app.reading_within(1, |engine| async move { engine.advertise(&named, peel, ephemeral).await });
        let (mut found, room) = read.await?;
        if self.pending {
            let named = request.prefixes().iter().filter_map(|prefix| prefix.strip_prefix(PENDING));
            let users = named.filter_map(|user| Uuid::try_parse_ascii(user).ok());
            let users: Vec<Uuid> = users.take(PENDING_MAX).collect();
            found.refs.extend(app.reading(app.engine().advertise_pending(project, &users)).await?);
        }
        let mut out = Vec::new();
        let unborn = found.unborn.as_deref().map(str::as_bytes);
        request.write_answer(&mut out, unborn, &found.refs).map_err(broken)?;
        Ok(whole(out).map(|body| holding(body, room)))
    }

    async fn object_info(self, request: &ObjectInfoRequest) -> Answer {
        let (app, project) = (self.app, self.project);
        let sizes = app.reading(app.engine().object_sizes(project, &request.oids)).await?;
        let sizes: std::collections::HashMap<_, _> = request.oids.iter().zip(sizes).collect();
        let mut out = Vec::new();
        request.write_answer(&mut out, |oid| sizes.get(oid).copied().flatten()).map_err(broken)?;
        Ok(whole(out))
    }

    /// Admits a fetch; `Err` holds the answer to one that is refused.
    async fn begin(self, arguments: FetchArguments) -> Result<Result<Upload, Response>, Problem> {
        let (app, project) = (self.app, self.project);
        match app.exporting(app.engine().begin_upload(project, arguments, self.pending)).await {
            Ok(upload) => Ok(Ok(upload)),
            // What the client asked for is impossible: that is the protocol's to say.
            Err(problem) if problem.status() == http::StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Err(whole(serve::error_response(problem.body()["detail"].as_str().unwrap_or("refused")))))
            }
            Err(problem) => Err(problem),
        }
    }

    /// `fetch` of v2.
    async fn fetch(self, arguments: FetchArguments) -> Answer {
        let step = arguments.step();
        if step == FetchStep::Nothing {
            return Ok(whole(Vec::new()));
        }
        let boundary = arguments.expects_shallow_info();
        let upload = match self.begin(arguments).await? {
            Ok(upload) => upload,
            Err(refused) => return Ok(refused),
        };
        let mut head = Vec::new();
        if step == FetchStep::Acknowledge {
            serve::write_acknowledgments(&mut head, upload.common(), upload.is_ready()).map_err(broken)?;
            if !upload.is_ready() {
                return Ok(whole(head));
            }
        }
        if boundary || upload.is_cut() {
            serve::write_shallow_info(&mut head, upload.shallow(), upload.unshallow()).map_err(broken)?;
        }
        serve::write_packfile_head(&mut head).map_err(broken)?;
        pack(self.app, upload, SideBand::Large, head)
    }

    /// Before v2.
    async fn legacy(self, request: serve::UploadRequest) -> Answer {
        if request.arguments.wants.is_empty() {
            return Ok(whole(Vec::new()));
        }
        let upload = match self.begin(request.arguments.clone()).await? {
            Ok(upload) => upload,
            Err(refused) => return Ok(refused),
        };
        let mut head = Vec::new();
        request.write_boundary(&mut head, upload.shallow(), upload.unshallow()).map_err(broken)?;
        let common: std::collections::HashSet<_> = upload.common().iter().copied().collect();
        let last = request.arguments.haves.iter().rposition(|oid| common.contains(oid));
        let enough_at = last.filter(|_| upload.is_ready());
        let follows = request.negotiate(&mut head, |oid| common.contains(oid), enough_at).map_err(broken)?;
        if follows { pack(self.app, upload, request.capabilities.side_band, head) } else { Ok(whole(head)) }
    }
}

fn whole(body: Vec<u8>) -> Response {
    result(Service::UploadPack.result_type(), Body::from(body))
}

fn refused(error: &RequestError) -> Response {
    whole(serve::error_response(&error.to_string()))
}

fn broken(error: impl std::error::Error + 'static) -> Problem {
    Problem::internal(&error)
}

/// Streams the pack behind `head`.
fn pack(app: &App, upload: Upload, band: SideBand, head: Vec<u8>) -> Answer {
    let memory = app.reserve(UPLOAD_BYTES)?;
    let (packets, body) = packets::open(band, head);
    app.spawn(send(upload, packets, memory));
    Ok(result(Service::UploadPack.result_type(), Body::from_stream(body)))
}

async fn send(upload: Upload, packets: Packets, memory: Reserved) {
    let quiet = upload.arguments().no_progress;
    let voice = packets.voice();
    let told = {
        let voice = voice.clone();
        move |done: u64, total: u64| {
            if done == 0 && !quiet {
                voice.say(&format!("Enumerating objects: {total}, done.\n"));
            }
        }
    };
    let gone = voice.clone();
    let sent = tokio::select! {
        sent = upload.send(packets, &told) => sent,
        () = gone.closed() => return,
    };
    drop(gone);
    match sent {
        Ok((packets, sent)) => {
            if !quiet {
                voice.say(&format!("Total {} (bytes {})\n", sent.objects, sent.bytes));
            }
            drop((voice, told));
            packets.close().await;
        }
        Err(error) => {
            let problem = Problem::from(error);
            let logged = problem.logged();
            tracing::warn!(code = logged.code, cause = logged.cause.as_deref().unwrap_or(""), "a pack was cut short");
            let detail = problem.body()["detail"].as_str().unwrap_or("the pack could not be completed").to_owned();
            voice.give_up(&detail).await;
        }
    }
    drop(memory);
}
