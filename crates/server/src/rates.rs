//! Rate limits: how often a user may read and write, and how often a project may be synced.
//!
//! Token buckets of a minute's worth, as GCRA (ITU-T I.371, the virtual scheduling algorithm): of a bucket only the time is kept at which
//! it will be full, and one that is full need not be kept. In memory, for this server alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, MatchedPath, OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use treehold_mcp::Counted;
use uuid::Uuid;

use crate::access;
use crate::admission::{Key, key_of, project_key};
use crate::app::App;
use crate::auth::Caller;
use crate::error::Problem;
use crate::params::{Query, captures};

/// Requests a minute; 0 = any number. A minute's worth may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one user in one project, those that read.
    pub reads: u32,
    /// Of one user in one project, those that write.
    pub writes: u32,
    /// Syncs of one project, whoever asks.
    pub syncs: u32,
}

impl RateLimits {
    /// Nothing is counted.
    pub const OFF: Self = Self { reads: 0, writes: 0, syncs: 0 };
    /// For people who read and save by hand.
    pub const ON: Self = Self { reads: 100, writes: 20, syncs: 10 };

    fn of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Read => self.reads,
            Kind::Write => self.writes,
            Kind::Sync => self.syncs,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Buckets of one generation; two are kept. Whoever is forgotten has a full bucket again.
const BUCKETS_MAX: usize = 1 << 16;

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Read,
    Write,
    Sync,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Sync => "syncs",
        }
    }
}

/// Project, user, what.
type Bucket = (Key, Uuid, Kind);

/// The buckets of this server.
#[derive(Debug)]
pub(crate) struct Rates {
    limits: RateLimits,
    started: Instant,
    /// When each will be full, since the start. The older generation goes when the younger one has grown.
    full_at: Mutex<[HashMap<Bucket, Duration>; 2]>,
}

impl Rates {
    /// `None` where nothing is limited.
    pub(crate) fn new(limits: RateLimits) -> Option<Self> {
        (limits != RateLimits::OFF).then(|| Self { limits, started: Instant::now(), full_at: Mutex::default() })
    }

    /// Counts a request, or says how long to wait.
    fn take(&self, bucket: Bucket, now: Instant) -> Result<(), Duration> {
        let limit = self.limits.of(bucket.2);
        if limit == 0 {
            return Ok(());
        }
        let one = MINUTE / limit;
        let now = now.duration_since(self.started);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *full_at;
        let known = young.get(&bucket).or_else(|| old.get(&bucket)).copied();
        let filled = known.unwrap_or_default().max(now) + one;
        // Full in more than a minute: it is empty, and will have room for one when that is a minute away.
        if let Some(wait) = filled.checked_sub(now + MINUTE).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if young.len() >= BUCKETS_MAX && !young.contains_key(&bucket) {
            *old = std::mem::take(young);
        }
        young.insert(bucket, filled);
        Ok(())
    }

    fn refusal(&self, kind: Kind, wait: Duration) -> Problem {
        let (name, limit) = (kind.name(), self.limits.of(kind));
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail =
            format!("more than {limit} {name} in a minute; wait as long as Retry-After says, then repeat the request");
        let told = [
            ("ratelimit-policy", format!("\"{name}\";q={limit};w=60")),
            ("ratelimit", format!("\"{name}\";r=0;t={seconds}")),
        ];
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .with("rate", json!({"name": name, "requests": limit, "seconds": 60}))
            .retry_after(seconds);
        told.into_iter().fold(problem, |problem, (name, value)| match HeaderValue::from_str(&value) {
            Ok(value) => problem.header(HeaderName::from_static(name), value),
            Err(_) => problem,
        })
    }
}

/// What a request will be counted as, once it is known for whom.
#[derive(Debug, Clone, Copy)]
struct Meter {
    project: Key,
    kind: Kind,
}

/// Whose request counts: that of the user it names, else of the token's user, else of the token. A key that names nobody counts for
/// nobody: it is a service that speaks for all.
fn payer(caller: &Caller, named: Option<Uuid>) -> Option<Uuid> {
    named.or(caller.user).or(caller.token)
}

impl Meter {
    /// `None`: the request is of a kind that is not counted.
    fn of(template: &str, path: &str, method: &Method, caller: &Caller) -> Option<Self> {
        let kind = match (template.strip_prefix("/projects/{project}"), method) {
            (Some("/sync"), _) => Kind::Sync,
            (Some("/read" | "/search"), _) | (_, &Method::GET | &Method::HEAD) => Kind::Read,
            _ => Kind::Write,
        };
        if !template.contains("{project}") {
            return None;
        }
        let project = caller.project.map_or_else(|| project_key(template, path), |id| id.as_u128());
        Some(Self { project, kind })
    }

    fn count(self, app: &App, caller: &Caller, named: Option<Uuid>) -> Result<(), Problem> {
        let (Some(rates), Self { project, kind }) = (app.rates(), self) else { return Ok(()) };
        let payer = if kind == Kind::Sync { Some(Uuid::nil()) } else { payer(caller, named) };
        let Some(payer) = payer else { return Ok(()) };
        rates.take((project, payer, kind), Instant::now()).map_err(|wait| rates.refusal(kind, wait))
    }
}

/// Whose calls of an agent's tools are counted: each by what it does, as the route that does the same.
#[derive(Debug, Clone)]
pub(crate) struct Payer {
    project: Key,
    caller: Caller,
    user: Uuid,
}

impl Payer {
    /// Of a request that is bound to this project and user.
    pub(crate) fn new(caller: Caller, project: &str, user: Uuid) -> Self {
        let project = caller.project.map_or_else(|| key_of(project.as_bytes()), |id| id.as_u128());
        Self { project, caller, user }
    }

    pub(crate) fn count(&self, app: &App, call: Counted) -> Result<(), Problem> {
        let kind = match call {
            Counted::Read => Kind::Read,
            Counted::Write => Kind::Write,
            Counted::Sync => Kind::Sync,
        };
        Meter { project: self.project, kind }.count(app, &self.caller, Some(self.user))
    }
}

/// Set on requests that count, for routes that see by themselves what to count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limited;

/// Counts requests behind the door, where there are limits. Those that name their user in the body are counted when it is read.
pub(crate) async fn limit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Limited);
    match count(&app, &request) {
        Ok(Some(meter)) => _ = request.extensions_mut().insert(meter),
        Ok(None) => {}
        Err(problem) => return problem.into_response(),
    }
    next.run(request).await
}

/// The meter of a request that is to be counted later.
fn count(app: &App, request: &Request) -> Result<Option<Meter>, Problem> {
    let extensions = request.extensions();
    let (Some(caller), Some(template)) = (extensions.get::<Caller>(), extensions.get::<MatchedPath>()) else {
        return Ok(None);
    };
    let (template, method) = (template.as_str(), request.method());
    let uri = extensions.get::<OriginalUri>().map_or(request.uri(), |uri| &uri.0);
    let Some(meter) = Meter::of(template, uri.path(), method, caller) else { return Ok(None) };
    if access::names_user_in_body(template, method) {
        return Ok(Some(meter));
    }
    let captured = captures(template, uri.path())?;
    let in_path =
        captured.iter().find(|(name, _)| *name == "user").and_then(|(_, user)| Uuid::try_parse_ascii(user).ok());
    let named = in_path.or(Query::of(uri)?.uuid("user")?);
    meter.count(app, caller, named).map(|()| None)
}

/// Who acts for a user that the body names: whether that is allowed, and its place in the counts.
#[derive(Debug)]
pub(crate) struct Acting {
    caller: Caller,
    meter: Option<Meter>,
}

impl Acting {
    /// To be asked once, with the user that the body names; `None` = none, what was committed is nobody's.
    pub(crate) fn for_user(self, app: &App, user: Option<Uuid>) -> Result<(), Problem> {
        self.caller.may_open_view(user)?;
        self.meter.map_or(Ok(()), |meter| meter.count(app, &self.caller, user))
    }
}

impl<S: Sync> FromRequestParts<S> for Acting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        Ok(Self { caller, meter: parts.extensions.get().copied() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = (1, Uuid::nil(), Kind::Write);

    fn rates(writes: u32) -> Rates {
        Rates::new(RateLimits { writes, ..RateLimits::ON }).unwrap()
    }

    #[test]
    fn a_minutes_worth_comes_at_once_and_then_evenly() {
        let rates = rates(20);
        let start = rates.started;
        for number in 0..20 {
            assert_eq!(rates.take(BUCKET, start), Ok(()), "{number}");
        }
        assert_eq!(rates.take(BUCKET, start), Err(Duration::from_secs(3)));
        assert_eq!(
            rates.take(BUCKET, start + Duration::from_secs(1)),
            Err(Duration::from_secs(2)),
            "asking costs nothing"
        );
        assert_eq!(rates.take(BUCKET, start + Duration::from_secs(3)), Ok(()));
        assert_eq!(rates.take(BUCKET, start + Duration::from_secs(3)), Err(Duration::from_secs(3)));
        let later = start + Duration::from_secs(1_000);
        for number in 0..20 {
            assert_eq!(rates.take(BUCKET, later), Ok(()), "{number} after a long rest: no more than a minute's worth");
        }
        assert!(rates.take(BUCKET, later).is_err());
    }

    #[test]
    fn buckets_are_apart() {
        let rates = rates(1);
        let now = rates.started;
        let other = Uuid::from_u128(1);
        for bucket in [BUCKET, (2, BUCKET.1, BUCKET.2), (1, other, BUCKET.2), (1, BUCKET.1, Kind::Read)] {
            assert_eq!(rates.take(bucket, now), Ok(()), "{bucket:?}");
        }
        assert!(rates.take(BUCKET, now).is_err());
    }

    #[test]
    fn nothing_is_counted_where_there_is_no_limit() {
        assert!(Rates::new(RateLimits::OFF).is_none());
        let rates = rates(0);
        assert!((0..1_000).all(|_| rates.take(BUCKET, rates.started).is_ok()));
        assert!(rates.full_at.lock().unwrap()[0].is_empty());
    }

    #[test]
    fn no_more_buckets_are_kept_than_there_is_room_for() {
        let rates = rates(1);
        let bucket = |number: usize| (number as u128, Uuid::nil(), Kind::Write);
        for number in 0..3 * BUCKETS_MAX {
            assert_eq!(rates.take(bucket(number), rates.started), Ok(()));
        }
        let kept = rates.full_at.lock().unwrap().iter().map(HashMap::len).collect::<Vec<_>>();
        assert!(kept.iter().all(|kept| *kept <= BUCKETS_MAX), "{kept:?}");
        assert!(rates.take(bucket(3 * BUCKETS_MAX - 1), rates.started).is_err(), "the newest are known");
        assert!(rates.take(bucket(2 * BUCKETS_MAX - 1), rates.started).is_err(), "those before them, too");
        assert!(rates.take(bucket(0), rates.started).is_ok(), "the oldest are forgotten");
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let problem = rates(20).refusal(Kind::Write, Duration::from_millis(2_001));
        assert_eq!((problem.status().as_u16(), problem.code()), (429, "rate_limited"));
        assert_eq!(problem.body()["rate"], json!({"name": "writes", "requests": 20, "seconds": 60}));
        let headers = problem.into_response().headers().clone();
        assert_eq!(headers["retry-after"], "3");
        assert_eq!(headers["ratelimit-policy"], "\"writes\";q=20;w=60");
        assert_eq!(headers["ratelimit"], "\"writes\";r=0;t=3");
    }

    #[test]
    fn requests_are_reads_writes_or_syncs() {
        let key = Caller::with_key();
        let kind = |method: &str, template: &str| {
            Meter::of(template, "/x/docs", &method.parse().unwrap(), &key).map(|meter| meter.kind)
        };
        for (method, template, expected) in [
            ("GET", "/files/{project}/{*path}", Some(Kind::Read)),
            ("HEAD", "/files/{project}/{*path}", Some(Kind::Read)),
            ("PUT", "/files/{project}/{*path}", Some(Kind::Write)),
            ("POST", "/projects/{project}/read", Some(Kind::Read)),
            ("POST", "/projects/{project}/search", Some(Kind::Read)),
            ("GET", "/projects/{project}/changes", Some(Kind::Read)),
            ("POST", "/pending/{project}/{user}", Some(Kind::Write)),
            ("POST", "/projects/{project}/commit", Some(Kind::Write)),
            ("POST", "/projects/{project}/sync", Some(Kind::Sync)),
            ("POST", "/projects/{project}/push", Some(Kind::Write)),
            ("GET", "/projects", None),
            ("GET", "/metrics", None),
        ] {
            assert_eq!(kind(method, template), expected, "{method} {template}");
        }
    }

    #[test]
    fn the_named_user_counts_or_the_token() {
        let (user, own, token) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let with = |user, token| Caller { user, token, ..Caller::with_key() };
        assert_eq!(payer(&with(None, None), Some(user)), Some(user));
        assert_eq!(payer(&with(None, None), None), None);
        assert_eq!(payer(&with(Some(own), Some(token)), None), Some(own));
        assert_eq!(payer(&with(None, Some(token)), None), Some(token));
    }
}
