//! [`GitRemote`]: git's protocol version 2 for reading, and one `git-receive-pack` request for a push.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use treehold_object::BString;
use treehold_wire::fetch::{
    ClientCapabilities, Deepen, FetchError, FetchLimits, FetchReader, FetchRequest, LsRefs, RefLimits, RefsReader,
    RemoteRef,
};
use treehold_wire::pktline::{self, Decoder, Packet};
use treehold_wire::{Advertisement, Capabilities};
use url::Url;

use super::allow::{self, Addresses, AllowList};
use super::hosts::Hosts;
use super::http::{self, Http, Site};
use super::local;
use super::transport::{Answer, Body, Deadlines, RemoteTimeouts, Service, TransportError};
use super::{Endpoint, FetchSpec, Fetching, PushSpec, Pushed, Remote, RemoteError, RemoteRefs};

/// What we call ourselves.
pub(super) const AGENT: &str = concat!("treehold/", env!("CARGO_PKG_VERSION"));
/// Longest list of capabilities, bytes.
const CAPABILITIES_LEN_MAX: usize = 64 << 10;
/// From here on git takes a depth for infinite.
const DEPTH_INFINITE: u32 = 0x7fff_ffff;
/// Lines of shallow commits and acknowledgements that are read of one answer.
const LINES_MAX: u64 = 5_000_000;

/// Git remotes over HTTP, and repositories on this machine for operators.
///
/// Cheap to share, keeps connections alive. It needs a default crypto provider of rustls in the process.
#[derive(Debug)]
pub struct GitRemote {
    allow: Arc<AllowList>,
    spool_dir: PathBuf,
    pub(super) timeouts: RemoteTimeouts,
    pub(super) hosts: Hosts,
    pub(super) http: Http,
}

/// Where an endpoint turned out to be.
pub(super) enum Place {
    Http(Site),
    Local(PathBuf),
}

impl Place {
    /// Under which what is known of it is remembered.
    fn origin(&self) -> String {
        match self {
            Self::Http(site) => site.origin(),
            Self::Local(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl GitRemote {
    /// A client that uses URLs under the prefixes `allow` (see [`AllowList`]) and puts packs into `spool_dir`.
    ///
    /// Fails with `NotAllowed` for a prefix that is none, with `Spool` if the directory cannot be made.
    pub fn new(allow: Vec<String>, spool_dir: PathBuf, timeouts: RemoteTimeouts) -> Result<Self, RemoteError> {
        std::fs::create_dir_all(&spool_dir).map_err(RemoteError::Spool)?;
        Ok(Self {
            allow: Arc::new(AllowList::parse(&allow)?),
            spool_dir,
            timeouts,
            hosts: Hosts::default(),
            http: Http::new(timeouts.connect),
        })
    }

    /// Judges the endpoint's URL, without any network.
    pub(super) fn locate(&self, at: &Endpoint) -> Result<Place, RemoteError> {
        let authorization = at.credentials.as_ref().and_then(http::authorization);
        if !at.operator {
            let (base, addresses) = self.allow.judge(&at.url)?;
            return Ok(Place::Http(Site { base, addresses, allow: Some(self.allow.clone()), authorization }));
        }
        match local_path(&at.url)? {
            Some(path) => Ok(Place::Local(path)),
            None => {
                let base = allow::parse_url(&at.url)?;
                Ok(Place::Http(Site { base, addresses: Addresses::Any, allow: None, authorization }))
            }
        }
    }

    /// One request, once more if the connection failed: reading again is harmless.
    async fn read(&self, place: &Place, body: Body, total: Duration) -> Result<Answer, TransportError> {
        let deadlines = Deadlines::new(self.timeouts.idle, total);
        match self.post(place, Service::UploadPack, &body, deadlines).await {
            Err(error) if error.is_connection_failure() => {
                tracing::debug!("a read from a remote failed to connect; trying once more");
                tokio::time::sleep(Duration::from_millis(rand::random_range(50..250))).await;
                self.post(place, Service::UploadPack, &body, deadlines).await
            }
            done => done,
        }
    }

    pub(super) async fn post(
        &self,
        place: &Place,
        service: Service,
        body: &Body,
        deadlines: Deadlines,
    ) -> Result<Answer, TransportError> {
        match place {
            Place::Http(site) => self.http.post(site, service, body, deadlines).await,
            Place::Local(path) => local::post(path, service, body, deadlines).await,
        }
    }

    /// What `git-upload-pack` can do there; asked once for each host, and for each local repository. Fails where version 2 is not spoken.
    async fn upload_capabilities(&self, place: &Place) -> Result<Arc<Capabilities>, RemoteError> {
        let origin = place.origin();
        if let Some(known) = self.hosts.upload(&origin) {
            return Ok(known);
        }
        let told = match self.ask(place, Service::UploadPack).await {
            Err(error) if error.is_connection_failure() => self.ask(place, Service::UploadPack).await?,
            done => done?,
        };
        if told.version != 2 {
            let text = format!("it speaks version {} of git's protocol, but version 2 is needed", told.version);
            return Err(RemoteError::Invalid(text));
        }
        if told.capabilities.value("object-format").is_some_and(|format| format != b"sha1") {
            return Err(RemoteError::Invalid("the repository does not use SHA-1".into()));
        }
        Ok(self.hosts.learn_upload(origin, told.capabilities))
    }

    /// Asks for the capabilities. Of the refs that come along before version 2 only the first is read.
    pub(super) async fn ask(&self, place: &Place, service: Service) -> Result<Advertisement, TransportError> {
        let deadlines = Deadlines::new(self.timeouts.idle, self.timeouts.refs);
        let mut answer = match place {
            Place::Http(site) => self.http.advertisement(site, service, deadlines).await?,
            Place::Local(path) => local::advertisement(path, service, deadlines).await?,
        };
        let invalid = |text: String| TransportError::Invalid(text);
        let (mut decoder, mut head, mut service_head) = (Decoder::new(), Vec::new(), false);
        while let Some(chunk) = answer.chunk().await? {
            decoder.push(&chunk);
            while let Some(packet) = decoder.next_packet().map_err(|error| invalid(error.to_string()))? {
                let done = match packet {
                    Packet::Data(line) if head.is_empty() && line.starts_with(b"# service=") => {
                        service_head = true;
                        false
                    }
                    Packet::Flush if std::mem::take(&mut service_head) => false,
                    Packet::Data(line) => {
                        pktline::write(&mut head, &line).map_err(|error| invalid(error.to_string()))?;
                        line.contains(&0)
                    }
                    _ => true,
                };
                if head.len() > CAPABILITIES_LEN_MAX {
                    return Err(invalid("its list of capabilities is too long".into()));
                }
                if done {
                    head.extend_from_slice(pktline::FLUSH);
                    // The answer's end, if it is here: then the connection can be used again.
                    if !head.contains(&0) {
                        answer.chunk().await?;
                    }
                    return Advertisement::parse(&head).map_err(|error| invalid(error.to_string()));
                }
            }
        }
        Err(TransportError::Broken("the answer is cut off".into()))
    }
}

#[async_trait]
impl Remote for GitRemote {
    fn check_url(&self, url: &str) -> Result<(), RemoteError> {
        self.allow.judge(url).map(|_| ())
    }

    fn names_host(&self, url: &str) -> bool {
        self.allow.names_host(url)
    }

    async fn refs(&self, at: &Endpoint, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        let place = self.locate(at)?;
        let listed = self.list(&place, prefixes).await;
        if let Err(RemoteError::Invalid(_)) = &listed {
            // Perhaps another server answers there by now.
            self.hosts.forget(&place.origin());
        }
        listed
    }

    async fn fetch(&self, at: &Endpoint, spec: &FetchSpec) -> Result<Fetching, RemoteError> {
        let place = self.locate(at)?;
        let body = self.fetch_request(&place, spec).await?;
        let answer = self.read(&place, body, self.timeouts.transfer).await?;
        let reader = FetchReader::new(FetchLimits { pack_bytes: spec.pack_bytes_max, lines: LINES_MAX });
        Fetching::begin(answer, reader, &self.spool_dir).await
    }

    async fn push(&self, at: &Endpoint, spec: &PushSpec) -> Pushed {
        match self.locate(at) {
            Ok(place) => self.push_to(&place, spec).await,
            Err(error) => Pushed::Rejected(error.to_string()),
        }
    }
}

impl GitRemote {
    async fn list(&self, place: &Place, prefixes: &[String]) -> Result<RemoteRefs, RemoteError> {
        let told = self.upload_capabilities(place).await?;
        let mut wanted: Vec<BString> = prefixes.iter().map(|prefix| prefix.as_str().into()).collect();
        if !wanted.is_empty() {
            wanted.push("HEAD".into());
        }
        let command = LsRefs { prefixes: wanted, unborn: told.has_feature("ls-refs", "unborn") };
        let head = command.encode(&spoken(&told)).map_err(|error| RemoteError::Invalid(error.to_string()))?;
        let body = Body { head: head.into(), pack: None };
        let mut answer = self.read(place, body, self.timeouts.refs).await?;
        let mut reader = RefsReader::new(RefLimits::default());
        while let Some(chunk) = answer.chunk().await? {
            reader.push(&chunk).map_err(fetch_error)?;
        }
        Ok(listed(reader.finish().map_err(fetch_error)?, prefixes))
    }

    async fn fetch_request(&self, place: &Place, spec: &FetchSpec) -> Result<Body, RemoteError> {
        if spec.wants.is_empty() {
            return Err(RemoteError::Invalid("there is nothing to ask it for".into()));
        }
        let told = self.upload_capabilities(place).await?;
        let cuts = told.has_feature("fetch", "shallow");
        let deepen = match spec.depth {
            None if spec.alone && cuts => Deepen::Depth(1),
            None => Deepen::Keep,
            Some(0 | DEPTH_INFINITE..) => Deepen::Unshallow,
            Some(depth) => Deepen::Depth(depth),
        };
        if !cuts && (deepen != Deepen::Keep || !spec.shallow.is_empty()) {
            return Err(RemoteError::Invalid("it cannot cut history off; fetch all of it".into()));
        }
        // What is wanted by name comes whatever the filter says.
        let filter = (spec.alone && told.has_feature("fetch", "filter")).then(|| "tree:0".into());
        let request = FetchRequest {
            wants: spec.wants.clone(),
            haves: spec.haves.clone(),
            shallow: spec.shallow.clone(),
            deepen,
            filter,
            no_progress: true,
            ..FetchRequest::default()
        };
        let head = request.encode(&spoken(&told)).map_err(|error| RemoteError::Invalid(error.to_string()))?;
        Ok(Body { head: head.into(), pack: None })
    }
}

/// An operator's path or `file://` URL as an absolute path; `None` = it is an HTTP URL.
fn local_path(text: &str) -> Result<Option<PathBuf>, RemoteError> {
    let refused = |text: &str| Err(RemoteError::NotAllowed(text.into()));
    if allow::is_http(text) {
        return Ok(None);
    }
    if text.is_empty() || text.starts_with('-') || text.contains('\0') {
        return refused("a remote is a URL or the path of a repository");
    }
    let path = if text.get(.."file://".len()).is_some_and(|start| start.eq_ignore_ascii_case("file://")) {
        match Url::parse(text).ok().and_then(|url| url.to_file_path().ok()) {
            Some(path) => path,
            None => return refused("the file:// URL names no path on this machine"),
        }
    } else {
        PathBuf::from(text)
    };
    match std::path::absolute(&path) {
        Ok(path) if path.is_dir() => Ok(Some(path)),
        _ if text.contains("://") || text.contains("::") => {
            refused("only https://, http:// and file:// URLs are known")
        }
        _ => refused("there is no repository at this path"),
    }
}

fn spoken(told: &Capabilities) -> ClientCapabilities<'static> {
    ClientCapabilities { agent: Some(AGENT), object_format: told.has("object-format") }
}

/// The refs that were asked for, without those whose names are no UTF-8. `HEAD` is told apart.
fn listed(refs: Vec<RemoteRef>, prefixes: &[String]) -> RemoteRefs {
    let mut listed = RemoteRefs::default();
    for found in refs {
        if found.name == "HEAD" {
            listed.head = found.symref_target.and_then(|target| String::from_utf8(target.into()).ok());
            continue;
        }
        let (Some(oid), Ok(name)) = (found.oid, String::from_utf8(found.name.into())) else { continue };
        if prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            listed.refs.push((name, oid));
        }
    }
    listed
}

pub(super) fn fetch_error(error: FetchError) -> RemoteError {
    match error {
        FetchError::Remote(_) => RemoteError::Refused(error.to_string()),
        FetchError::Truncated => RemoteError::Failed(error.to_string()),
        _ => RemoteError::Invalid(error.to_string()),
    }
}
