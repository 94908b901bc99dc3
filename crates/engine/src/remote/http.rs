//! git's smart HTTP: one request to a service of one repository, its answer streamed.
//!
//! No proxy is used, since a proxy would resolve names by itself, behind the address check. Redirects are followed
//! only to the same scheme, host and port, so that credentials never leave the host they are for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use treehold_object::ByteSlice as _;
use treehold_wire::printable;
use url::Url;
use zeroize::Zeroizing;

use super::Secret;
use super::address::{NoPublicAddress, PublicResolver};
use super::allow::{Addresses, AllowList};
use super::status;
use super::transport::{Activity, Answer, Body, Deadlines, Service, TEXT_LEN_MAX, TransportError};

/// Most redirects followed for one request.
const REDIRECTS_MAX: usize = 3;
/// Hosts answer agents that begin with `git/` as git's servers, others perhaps as web sites.
const USER_AGENT: &str = concat!("git/treehold-", env!("CARGO_PKG_VERSION"));
/// Idle connections are dropped before servers drop them: a push must not be lost to that race.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// A repository on an HTTP server, judged.
#[derive(Clone)]
pub(super) struct Site {
    /// Without a slash at its end.
    pub(super) base: Url,
    pub(super) addresses: Addresses,
    /// What redirects have to stay within; `None` = an operator's URL.
    pub(super) allow: Option<Arc<AllowList>>,
    /// Marked as sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

impl Site {
    /// Scheme, host and port, for remembering what the server can do.
    pub(super) fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// What it is shown: as it stands in the header, and the token by itself.
    fn shown(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let header = self.authorization.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
        let encoded = header.strip_prefix(b"Basic ").unwrap_or_default();
        let pair = Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default());
        let token = pair.iter().position(|byte| *byte == b':').and_then(|colon| pair.get(colon + 1..));
        let shown = [encoded, token.unwrap_or_default()].into_iter().filter(|secret| !secret.is_empty());
        shown.map(|secret| Zeroizing::new(secret.to_vec())).collect()
    }
}

/// Basic authentication as GitHub wants it for every kind of token. Other servers ignore the user name.
pub(super) fn authorization(secret: &Secret) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("x-access-token:{}", secret.expose()));
    let value = Zeroizing::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The HTTP clients: one for names that were vouched for, one that connects to public addresses only.
#[derive(Debug)]
pub(super) struct Http {
    connect_timeout: Duration,
    /// What finds public addresses.
    resolver: PublicResolver,
    any: OnceLock<Client>,
    public: OnceLock<Client>,
}

/// One request to a service.
struct Call<'a> {
    service: Service,
    /// `None` = ask for the capabilities.
    body: Option<&'a Body>,
    deadlines: Deadlines,
}

impl Call<'_> {
    fn suffix(&self) -> String {
        if self.body.is_some() { format!("/{}", self.service.name()) } else { "/info/refs".into() }
    }

    fn query(&self) -> Option<String> {
        self.body.is_none().then(|| format!("service={}", self.service.name()))
    }

    fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), self.suffix()));
        url.set_query(self.query().as_deref());
        url
    }

    fn answer_type(&self) -> String {
        let kind = if self.body.is_some() { "result" } else { "advertisement" };
        format!("application/x-{}-{kind}", self.service.name())
    }

    fn headers(&self, site: &Site) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name, value: &str| HeaderValue::from_str(value).map(|value| headers.insert(name, value)).is_ok();
        set(header::ACCEPT, &self.answer_type());
        if self.body.is_some() {
            set(header::CONTENT_TYPE, &format!("application/x-{}-request", self.service.name()));
        }
        if let Some(authorization) = &site.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        if self.service == Service::UploadPack {
            headers.insert("git-protocol", HeaderValue::from_static("version=2"));
        }
        headers
    }
}

impl Http {
    pub(super) fn new(connect_timeout: Duration) -> Self {
        Self::resolving(connect_timeout, PublicResolver::system())
    }

    fn resolving(connect_timeout: Duration, resolver: PublicResolver) -> Self {
        Self { connect_timeout, resolver, any: OnceLock::new(), public: OnceLock::new() }
    }

    /// `POST BASE/git-…-pack`.
    pub(super) async fn post(
        &self,
        site: &Site,
        service: Service,
        body: &Body,
        deadlines: Deadlines,
    ) -> Result<Answer, TransportError> {
        self.exchange(site, &Call { service, body: Some(body), deadlines }).await
    }

    /// `GET BASE/info/refs?service=git-…-pack`: the capabilities (and before version 2 the refs).
    pub(super) async fn advertisement(
        &self,
        site: &Site,
        service: Service,
        deadlines: Deadlines,
    ) -> Result<Answer, TransportError> {
        self.exchange(site, &Call { service, body: None, deadlines }).await
    }

    async fn exchange(&self, site: &Site, call: &Call<'_>) -> Result<Answer, TransportError> {
        let mut site = site.clone();
        for _ in 0..=REDIRECTS_MAX {
            let activity = Activity::new();
            let response = self.send(&site, call, &activity).await?;
            match response.status() {
                StatusCode::OK => return answer(response, call, activity),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => site.base = redirected(&site, call, &response)?,
                _ => {
                    let text = first_words(&site, response.headers().clone(), response, &activity, call.deadlines);
                    let (headers, status, text) = text.await;
                    return Err(status::classify(status, &headers, &text));
                }
            }
        }
        Err(TransportError::Refused(format!("the remote redirects more than {REDIRECTS_MAX} times")))
    }

    async fn send(&self, site: &Site, call: &Call<'_>, activity: &Arc<Activity>) -> Result<Response, TransportError> {
        let client = self.client(site.addresses)?;
        let method = if call.body.is_some() { Method::POST } else { Method::GET };
        let mut request = client.request(method, call.url(&site.base)).headers(call.headers(site));
        if let Some(body) = call.body {
            let body = body.open().await?;
            // Announced, so that it is not sent in chunks: some servers in front of git do not take those.
            request = request.header(header::CONTENT_LENGTH, body.bytes);
            request = request.body(reqwest::Body::wrap_stream(body.into_stream(activity.clone())));
        }
        let sent = call.deadlines.watch(activity, request.send()).await?;
        sent.map_err(|error| send_error(error, activity))
    }

    fn client(&self, addresses: Addresses) -> Result<&Client, TransportError> {
        let cell = match addresses {
            Addresses::Any => &self.any,
            Addresses::Public => &self.public,
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = self.build(addresses)?;
        Ok(cell.get_or_init(|| client))
    }

    /// Reads the system's certificates, hence only when a remote is first used.
    fn build(&self, addresses: Addresses) -> Result<Client, TransportError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(TransportError::Connect("TLS is not set up in this process".into()));
        }
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true);
        if addresses == Addresses::Public {
            builder = builder.dns_resolver(self.resolver.clone());
        }
        builder.build().map_err(|error| TransportError::Connect(format!("TLS could not be set up: {}", chain(&error))))
    }
}

/// Where a redirect leads, if it may be followed.
fn redirected(site: &Site, call: &Call<'_>, response: &Response) -> Result<Url, TransportError> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refuse = |why: &str| TransportError::Refused(format!("the remote redirects {why}"));
    let target = response.url().join(location).map_err(|_| refuse("to what is no URL"))?;
    if !target.username().is_empty() || target.password().is_some() || target.origin() != site.base.origin() {
        let to = printable(target.origin().ascii_serialization().as_bytes(), 200);
        let text = format!("the remote redirects to {to}; redirects are followed on the same host only");
        return Err(TransportError::NotAllowed(text));
    }
    let fits = target.query() == call.query().as_deref() && target.fragment().is_none();
    let path = target.path().strip_suffix(&call.suffix()).filter(|_| fits);
    // A login page, for example.
    let path = path.ok_or_else(|| refuse("to what is no git repository; the URL or the credentials may be wrong"))?;
    let mut base = target.clone();
    base.set_query(None);
    base.set_path(path);
    match &site.allow {
        None => Ok(base),
        Some(allow) => match allow.judge(base.as_str()) {
            Ok((base, addresses)) if addresses == site.addresses => Ok(base),
            _ => Err(TransportError::NotAllowed("the remote redirects to a URL that is not allowed".into())),
        },
    }
}

fn answer(response: Response, call: &Call<'_>, activity: Arc<Activity>) -> Result<Answer, TransportError> {
    let headers = response.headers();
    let kind = headers.get(header::CONTENT_TYPE).map(|value| printable(value.as_bytes(), 100)).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    // Git itself does not look at the type of a POST's answer; one that is there must be right, though.
    if essence != call.answer_type() && !(essence.is_empty() && call.body.is_some()) {
        return Err(TransportError::Invalid(format!("it is {kind:?}, not git's protocol")));
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(TransportError::Invalid("it is compressed, which was not asked for".into()));
    }
    let stream = response.bytes_stream().map_err(|error| TransportError::Broken(chain(&error.without_url())));
    Ok(Answer { stream: stream.boxed(), activity, deadlines: call.deadlines })
}

/// The beginning of an error's text, if it is text. That it cannot be read is no further error. Some servers repeat what they were sent:
/// what they were shown goes from it, as the text is told, logged and kept.
async fn first_words(
    site: &Site,
    headers: HeaderMap,
    response: Response,
    activity: &Activity,
    deadlines: Deadlines,
) -> (HeaderMap, StatusCode, String) {
    let status = response.status();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let shown = site.shown();
    let longest = shown.iter().map(|secret| secret.len()).max().unwrap_or_default();
    let (mut words, words_max) = (Vec::new(), TEXT_LEN_MAX + 1 + longest);
    if kind.starts_with("text/plain") || kind.starts_with("application/json") {
        let mut stream = response.bytes_stream();
        while words.len() < words_max
            && let Ok(Some(Ok(chunk))) = deadlines.watch(activity, stream.next()).await
        {
            let chunk: Bytes = chunk;
            words.extend_from_slice(&chunk[..chunk.len().min(words_max - words.len())]);
        }
    }
    let is_cut = words.len() == words_max;
    let mut words = shown.iter().fold(words, |words, secret| words.replace(secret.as_slice(), "…"));
    if is_cut {
        // The last bytes may be the beginning of one.
        words.truncate(words.len().saturating_sub(longest));
    }
    (headers, status, printable(words.trim_ascii(), TEXT_LEN_MAX))
}

fn send_error(error: reqwest::Error, activity: &Activity) -> TransportError {
    let error = error.without_url();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(forbidden) = inner.downcast_ref::<NoPublicAddress>() {
            return TransportError::NoAddress(forbidden.to_string());
        }
        source = inner.source();
    }
    if error.is_connect() || !activity.any_sent() {
        TransportError::Connect(chain(&error))
    } else {
        TransportError::Broken(chain(&error))
    }
}

/// The error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    printable(text.as_bytes(), 1_000).replace('\n', " ")
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
