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
/// Between two rounds of telling: who types is told of a few times a second, not of each letter.
const PAUSE: Duration = Duration::from_millis(200);
/// Before the feed is read again after it could not be.
const AGAIN: Duration = Duration::from_secs(2);
/// Events read at once.
const PAGE: usize = 500;
/// Files of one move of the branch that are looked at one by one; where there are more, all that is watched may have changed.
const FILES_MAX: usize = 5_000;

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
    /// From the cursor, or from now on.
    pub(crate) async fn open<H: Host>(host: &H, binding: &Binding, since: Option<String>) -> Result<Self, Refusal> {
        let (project, user, branch) = (binding.project.clone(), binding.user, binding.branch.clone());
        let opened = host.run(Work::Light, move |engine| async move {
            let feed = engine.feed(&project, since.as_deref(), Some(user)).await?;
            let branch = match branch {
                Some(branch) => branch,
                None => engine.show_project(&project).await?.default_branch,
            };
            Ok((feed, branch))
        });
        let (feed, branch) = opened.await?;
        Ok(Self { feed, branch })
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
            let cursor = self.feed.cursor();
            let (follower, touched) = match self.next(host, binding, watched).await {
                Ok(read) => read,
                Err(refusal) => match Self::recover(host, binding, &refusal, cursor, ended).await {
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
        let Self { mut feed, branch } = self;
        let read = host.run(Work::Light, move |_| async move {
            let page = feed.page(Some(PAGE)).await?;
            Ok((feed, page.events))
        });
        let (feed, events) = read.await?;
        let mut touched = Touched::by(&events, &branch);
        let files =
            watched.all().iter().any(|uri| matches!(resources::named(&binding.project, uri), Some(Named::File(_))));
        for (from, to) in std::mem::take(&mut touched.moves) {
            if !files || touched.all {
                break;
            }
            match Self::changed(host, binding, from, to).await {
                Some(paths) => touched.paths.extend(paths),
                None => touched.all = true,
            }
        }
        Ok((Self { feed, branch }, touched))
    }

    /// The files between two commits of the branch; `None` = any of them.
    async fn changed<H: Host>(host: &H, binding: &Binding, from: Option<Oid>, to: Option<Oid>) -> Option<Vec<Vec<u8>>> {
        let request = DiffRequest {
            from: Some(from?.to_string()),
            to: Some(to?.to_string()),
            limit: Some(FILES_MAX),
            ..DiffRequest::default()
        };
        let project = binding.project.clone();
        let names = host.run(Work::Light, move |engine| async move { engine.diff_names(&project, &request).await });
        // What the branch has left may be gone: then nobody can say what changed.
        let names = names.await.ok().filter(|names| names.next_cursor.is_none())?;
        Some(names.files.into_iter().map(|file| file.path.0.to_vec()).collect())
    }

    /// Goes on where the feed could not be read; `None` where there is no more to come.
    async fn recover<H: Host>(
        host: &H,
        binding: &Binding,
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
            match Self::open(host, binding, since.clone()).await {
                Ok(follower) => return Some(follower),
                Err(refusal) => code = refusal.code,
            }
            if code == "cursor_expired" {
                since = None;
            }
        }
    }
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
