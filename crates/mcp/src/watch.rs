//! Subscriptions: what somebody watches, and what of it the project's change feed touches.
//!
//! One reader of the feed for each connection (stdio) or stream (`subscriptions/listen`), which tells of each resource once for all that
//! happened to it meanwhile. It may tell of one that did not change; of one that did it always tells.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::SubscriptionSink;
use rmcp::{Peer, RoleServer};
use tokio_util::sync::CancellationToken;
use treehold_engine::Feed;
use treehold_engine::api::{ChangeEvent, DiffRequest, EventView, Oid};

use crate::binding::Binding;
use crate::host::{Host, Refusal, Work};
use crate::resources::{self, Named};

/// Resources that are watched at once.
pub(crate) const WATCHED_MAX: usize = 1_000;
/// The longest URI that is watched, bytes: the longest path with each byte escaped, and a project's name.
pub(crate) const URI_BYTES_MAX: usize = 3 * 4_096 + 1_024;
/// Between two rounds of telling: who types is told of a few times a second, not of each letter.
const PAUSE: Duration = Duration::from_millis(200);
/// Before the feed is read again after it could not be.
const AGAIN: Duration = Duration::from_secs(2);
/// Events read at once.
const PAGE: usize = 500;
/// Files of one move of the branch that are looked at one by one; where there are more, all that is watched may have changed.
const FILES_MAX: usize = 5_000;
/// The same of the moves of one page. What lies between the first and the last commit would not do: a file that went there and back
/// was perhaps read in between.
const MOVES_MAX: usize = 8;
/// Memory for the names of the files that moves changed, bytes.
const NAMES_BYTES: u64 = 2 << 20;

/// What is watched: URIs of this project's resources.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<BTreeSet<String>>);

impl Watched {
    /// Whether there is room for it.
    pub(crate) fn add(&self, uri: String) -> bool {
        let mut uris = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = uris.len() < WATCHED_MAX || uris.contains(&uri);
        if fits {
            uris.insert(uri);
        }
        fits
    }

    pub(crate) fn remove(&self, uri: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uri);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl FromIterator<String> for Watched {
    fn from_iter<I: IntoIterator<Item = String>>(uris: I) -> Self {
        Self(Mutex::new(uris.into_iter().collect()))
    }
}

/// Who is told.
#[derive(Debug)]
pub(crate) enum Listener {
    /// The client of a connection.
    Peer(Peer<RoleServer>),
    /// That of a stream.
    Stream(SubscriptionSink),
}

impl Listener {
    /// Whether it still listens.
    async fn tell(&self, uri: String) -> bool {
        match self {
            Self::Peer(peer) => peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await.is_ok(),
            Self::Stream(sink) => sink.notify_resource_updated(uri).await.is_ok(),
        }
    }
}

/// A reader of the feed of what a connection is bound to.
#[derive(Debug)]
pub(crate) struct Follower {
    feed: Feed,
    /// Id of the project: its name may be changed meanwhile.
    project: String,
    /// Short name.
    branch: String,
}

/// What some events touch.
#[derive(Debug, Default, PartialEq, Eq)]
struct Touched {
    /// Head, pending work, or the remote.
    status: bool,
    /// Pending work on these paths.
    paths: BTreeSet<Vec<u8>>,
    /// From where to where the branch went.
    moves: Vec<(Option<Oid>, Option<Oid>)>,
    /// Any file may have changed.
    all: bool,
}

impl Touched {
    fn by(events: &[ChangeEvent], branch: &str) -> Self {
        let mut touched = Self::default();
        for event in events {
            match &event.told {
                EventView::Pending { branch: on, path, .. } if on == branch => {
                    touched.paths.insert(path.0.to_vec());
                    touched.status = true;
                }
                EventView::Ref { name, from, to, .. } if name.strip_prefix("refs/heads/") == Some(branch) => {
                    touched.moves.push((*from, *to));
                    touched.status = true;
                }
                EventView::Sync { branch: on, .. } | EventView::Push { branch: on, .. } if on == branch => {
                    touched.status = true;
                }
                _ => {}
            }
        }
        touched
    }

    /// Tells of all that is touched; whether somebody still listens.
    async fn tell(&self, project: &str, watched: &Watched, listener: &Listener) -> bool {
        for uri in watched.all() {
            if self.has(project, &uri) && !listener.tell(uri).await {
                return false;
            }
        }
        true
    }

    fn has(&self, project: &str, uri: &str) -> bool {
        match resources::named(project, uri) {
            Some(Named::Status) => self.status || self.all,
            Some(Named::File(path)) => self.all || self.paths.contains(&path),
            None => false,
        }
    }
}

impl Follower {
    /// From now on.
    pub(crate) async fn open<H: Host>(host: &H, binding: &Binding) -> Result<Self, Refusal> {
        Self::open_at(host, binding, binding.project.clone(), None).await
    }

    /// The same of a project by its name or id, from the cursor on if there is one.
    async fn open_at<H: Host>(
        host: &H,
        binding: &Binding,
        project: String,
        since: Option<String>,
    ) -> Result<Self, Refusal> {
        let (user, branch) = (binding.user, binding.branch.clone());
        let opened = host.run(Work::Light, move |engine| async move {
            let found = engine.show_project(&project).await?;
            let project = found.id.to_string();
            let feed = engine.feed(&project, since.as_deref(), Some(user)).await?;
            Ok(Self { feed, project, branch: branch.unwrap_or(found.default_branch) })
        });
        opened.await
    }

    /// Tells of all that is watched: it may have changed before the feed was opened.
    pub(crate) async fn tell_all(binding: &Binding, watched: &Watched, listener: &Listener) {
        let all = Touched { all: true, ..Touched::default() };
        let _listens = all.tell(&binding.project, watched, listener).await;
    }

    /// Tells of what changes until nobody listens, the project is gone, or `ended`.
    pub(crate) async fn run<H: Host>(
        mut self,
        host: &H,
        binding: &Binding,
        watched: &Watched,
        listener: &Listener,
        ended: &CancellationToken,
    ) {
        loop {
            let news = async {
                self.feed.news().await;
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                () = news => {}
                () = ended.cancelled() => return,
            }
            let (cursor, id) = (self.feed.cursor(), self.project.clone());
            let (follower, touched) = match self.next(host, binding, watched).await {
                Ok(read) => read,
                Err(refusal) => match Self::recover(host, binding, id, &refusal, cursor, ended).await {
                    Some(follower) => (follower, Touched { all: true, ..Touched::default() }),
                    None => return,
                },
            };
            self = follower;
            if !touched.tell(&binding.project, watched, listener).await {
                return;
            }
        }
    }

    /// A page of the feed, and what it touches.
    async fn next<H: Host>(self, host: &H, binding: &Binding, watched: &Watched) -> Result<(Self, Touched), Refusal> {
        let Self { mut feed, project, branch } = self;
        let read = host.run(Work::Light, move |_| async move {
            let page = feed.page(Some(PAGE)).await?;
            Ok((feed, page.events))
        });
        let (feed, events) = read.await?;
        let mut touched = Touched::by(&events, &branch);
        let files =
            watched.all().iter().any(|uri| matches!(resources::named(&binding.project, uri), Some(Named::File(_))));
        let moves = std::mem::take(&mut touched.moves);
        if files && !moves.is_empty() {
            match changed(host, &project, &moves).await {
                Some(paths) => touched.paths.extend(paths),
                None => touched.all = true,
            }
        }
        Ok((Self { feed, project, branch }, touched))
    }

    /// Goes on where the feed could not be read; `None` where there is no more to come.
    async fn recover<H: Host>(
        host: &H,
        binding: &Binding,
        project: String,
        refusal: &Refusal,
        cursor: String,
        ended: &CancellationToken,
    ) -> Option<Self> {
        let mut since = (refusal.code != "cursor_expired").then_some(cursor);
        let mut code = refusal.code.clone();
        loop {
            if code == "project_not_found" {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = ended.cancelled() => return None,
            }
            match Self::open_at(host, binding, project.clone(), since.clone()).await {
                Ok(follower) => return Some(follower),
                Err(refusal) => code = refusal.code,
            }
            if code == "cursor_expired" {
                since = None;
            }
        }
    }
}

/// What to compare for each of these moves of the branch; `None` = they cannot be looked at, or are too many.
fn comparisons(moves: &[(Option<Oid>, Option<Oid>)]) -> Option<Vec<DiffRequest>> {
    let request = |(from, to): &(Option<Oid>, Option<Oid>)| {
        let (from, to) = (Some((*from)?.to_string()), Some((*to)?.to_string()));
        Some(DiffRequest { from, to, limit: Some(FILES_MAX), ..DiffRequest::default() })
    };
    if moves.len() > MOVES_MAX { None } else { moves.iter().map(request).collect() }
}

/// The files that these moves of the branch changed; `None` = any of them.
async fn changed<H: Host>(host: &H, project: &str, moves: &[(Option<Oid>, Option<Oid>)]) -> Option<BTreeSet<Vec<u8>>> {
    let (requests, project) = (comparisons(moves)?, project.to_owned());
    let work = Work::Batch { factor: 0, bytes: NAMES_BYTES };
    let names = host.run(work, move |engine| async move {
        let mut paths = BTreeSet::new();
        for request in requests {
            let names = engine.diff_names(&project, &request).await?;
            if names.next_cursor.is_some() {
                return Ok(None);
            }
            paths.extend(names.files.into_iter().map(|file| file.path.0.to_vec()));
        }
        Ok(Some(paths))
    });
    // What the branch has left may be gone, and there may be no room to look: then nobody can say what changed.
    names.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use treehold_engine::api::{EventAction, Origin, Path};

    fn event(told: EventView) -> ChangeEvent {
        ChangeEvent { cursor: String::new(), at: String::new(), told }
    }

    fn pending(branch: &str, path: &str) -> ChangeEvent {
        event(EventView::Pending {
            user: uuid::Uuid::nil(),
            branch: branch.to_owned(),
            path: Path(path.into()),
            action: EventAction::Modified,
            mode: None,
            oid: None,
            base_oid: None,
            revision: 1,
            origin: Origin::default(),
        })
    }

    #[test]
    fn only_what_happens_on_the_branch_touches_what_is_watched() {
        let (status, file, other) = ("treehold://docs/", "treehold://docs/a%20b", "treehold://docs/c");
        let of = |events: &[ChangeEvent]| {
            let touched = Touched::by(events, "main");
            [status, file, other].map(|uri| touched.has("docs", uri))
        };
        assert_eq!(of(&[]), [false; 3]);
        assert_eq!(of(&[pending("main", "a b"), pending("next", "c")]), [true, true, false]);
        assert_eq!(of(&[pending("next", "a b")]), [false; 3]);
        let branch = "main".to_owned();
        assert_eq!(of(&[event(EventView::Sync { branch, from: None, to: None })]), [true, false, false]);
        let moved = |name: &str| {
            let (name, reason) = (name.to_owned(), "commit".to_owned());
            event(EventView::Ref { name, from: None, to: None, reason })
        };
        assert_eq!(Touched::by(&[moved("refs/heads/main"), moved("refs/tags/main")], "main").moves.len(), 1);
        let all = Touched { all: true, ..Touched::default() };
        assert!(all.has("docs", file) && all.has("docs", status) && !all.has("other", file));
    }

    #[test]
    fn a_move_that_cannot_be_looked_at_touches_everything() {
        let oid = |digit: char| Some(digit.to_string().repeat(40).parse::<Oid>().unwrap());
        let (a, b) = (oid('a'), oid('b'));
        // There and back: both are looked at, as the file may have been read in between.
        assert_eq!(comparisons(&[(a, b), (b, a)]).unwrap().len(), 2);
        assert!(comparisons(&[(None, a)]).is_none() && comparisons(&[(a, b), (b, None)]).is_none());
        assert!(comparisons(&[(a, b); MOVES_MAX]).is_some() && comparisons(&[(a, b); MOVES_MAX + 1]).is_none());
    }

    #[test]
    fn no_more_is_watched_than_there_is_room_for() {
        let watched = Watched::default();
        assert!((0..WATCHED_MAX).all(|number| watched.add(format!("u{number}"))));
        assert!(!watched.add("one more".to_owned()));
        assert!(watched.add("u1".to_owned()), "it is there already");
        watched.remove("u1");
        assert!(watched.add("one more".to_owned()));
        assert_eq!(watched.all().len(), WATCHED_MAX);
    }
}
