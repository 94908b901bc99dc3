//! The Rust client against the real server: its whole surface, with every answer held against /openapi.json on its way, and a network
//! that is cut.

mod examples;
mod failures;
mod relay;
mod surface;

use treehold_client::{Author, CommitAction, Options, Project, ProjectSpec, Remote, Treehold};

use crate::deployment::{API_KEY, Deployment};
use relay::Judge;

/// A client whose answers are judged on their way, and the judge.
pub async fn client(d: &Deployment) -> (Treehold, Judge) {
    let judge = Judge::before(&d.url(""));
    (through(&judge.url()), judge)
}

/// A client of whatever is at this URL, with the key. It waits as little as it can.
pub fn through(url: &str) -> Treehold {
    Treehold::new(options(url)).expect("a client")
}

pub fn options(url: &str) -> Options {
    Options::new(url).key(API_KEY).expect("a key").no_proxy().pause_at_most(std::time::Duration::from_millis(50))
}

/// A project with these files, and no remote.
pub async fn project(treehold: &Treehold, files: &[(&str, &str)]) -> Project {
    let view = treehold.create_project(None, &ProjectSpec::default()).await.expect("a project");
    let project = treehold.project(view.id);
    let actions = files.iter().map(|(path, content)| CommitAction::create(*path, *content)).collect();
    let request =
        treehold_client::ActionsRequest { message: "Begin".into(), author: ann(), actions, ..Default::default() };
    project.commit(&request, &Remote::default()).await.expect("a commit");
    project
}

pub fn ann() -> Author {
    Author::new("Ann", "ann@example.org")
}
