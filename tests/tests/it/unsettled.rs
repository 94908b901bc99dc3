//! What users do while nobody knows whether their commit arrived: later edits rest on what the commit took, what they decided stays, and
//! none of them has to merge with their own work.

use serde_json::{Value, json};
use treehold_tests::git_http::{Fault, On};
use uuid::Uuid;

use crate::both;
use crate::deployment::Deployment;
use crate::remote_tools::*;

/// The text with some of its lines changed.
fn text(changed: &[(&str, &str)]) -> String {
    changed.iter().fold(TEXT.to_owned(), |text, (line, now)| text.replace(&format!("{line}\n"), &format!("{now}\n")))
}

/// A synced project in which a user changed the first line.
async fn edited(d: &Deployment) -> (Remote, Uuid, Uuid) {
    let remote = small_remote(d, "docs");
    let project = d.connect("docs").await;
    let user = Uuid::new_v4();
    save(d, project, user, "text.txt", &text(&[("1\n2", "one\n2")])).await;
    (remote, project, user)
}

/// The user's commit arrives, and nobody here knows.
async fn arrives_unknown(d: &Deployment, project: Uuid, user: Uuid, key: &str) -> Value {
    d.git.fail_next(On::ReceivePack, 1, Fault::ExecuteThenCut);
    d.git.fail_next(On::Discovery, 100, Fault::Status(500));
    d.git.fail_next(On::UploadPack, 100, Fault::Status(500));
    let unknown = commit_key(d, project, &commit_body(user, "Mine"), key).await.problem(504, "push_unknown");
    d.git.heal();
    unknown
}

/// State of the user's only change.
async fn state(d: &Deployment, project: Uuid, user: Uuid) -> Value {
    let shown = status(d, project, user).await;
    assert_eq!(shown["changes"].as_array().map(Vec::len), Some(1), "{shown}");
    shown["changes"][0]["state"].clone()
}

both! {
    /// Goal: an edit that came while the commit of the one before was merged with others' work merges with that, too, although the version
    /// that it starts from was never stored but as pending work.
    async fn edits_on_top_of_a_merged_commit(d) {
        let (remote, project, user) = edited(&d).await;
        remote.moves(&[("text.txt", Some(text(&[("9", "nine")]).as_bytes()))]);
        sync(&d, project, json!({})).await.ok(200);
        let unknown = arrives_unknown(&d, project, user, "merged").await;
        assert_eq!(remote.file("text.txt"), text(&[("1\n2", "one\n2"), ("9", "nine")]), "merged");
        save(&d, project, user, "text.txt", &text(&[("1\n2", "one\n2"), ("5", "five")])).await;
        let answer = commit_key(&d, project, &commit_body(user, "Mine"), "merged").await.ok(200);
        assert_eq!(answer["commit"], unknown["commit"]);
        assert_eq!(state(&d, project, user).await, json!("outdated"));
        let shown = d.get(&format!("/projects/{project}/conflicts?user={user}")).await.ok(200);
        assert_eq!(shown["files"][0]["merged"]["hunks"], json!([]), "{shown}");
        commit(&d, project, commit_body(user, "More")).await.ok(200);
        assert_eq!(remote.file("text.txt"), text(&[("1\n2", "one\n2"), ("5", "five"), ("9", "nine")]));
    }

    /// Goal: a conflict that was resolved stays resolved when the commit that nobody knew of turns out to have landed.
    async fn a_resolution_stays(d) {
        let (remote, project, user) = edited(&d).await;
        arrives_unknown(&d, project, user, "resolved").await;
        let theirs = remote.moves(&[("text.txt", Some(text(&[("1\n2", "uno\n2")]).as_bytes()))]);
        sync(&d, project, json!({})).await.ok(200);
        assert_eq!(head(&d, project).await, theirs);
        assert_eq!(state(&d, project, user).await, json!("conflict"));
        let files = json!([{"path": "text.txt", "take": "ours"}]);
        d.post(&format!("/projects/{project}/resolve"), json!({"user": user, "files": files})).await.ok(200);
        assert_eq!(state(&d, project, user).await, json!("clean"));
        commit_key(&d, project, &commit_body(user, "Mine"), "resolved").await.ok(200);
        assert_eq!(state(&d, project, user).await, json!("clean"));
        commit(&d, project, commit_body(user, "Resolved")).await.ok(200);
        assert_eq!(remote.file("text.txt"), text(&[("1\n2", "one\n2")]));
    }

    /// Goal: what a user commits next goes on top of their own commit that arrived unknown, and does not conflict with it, also where
    /// somebody else's request has put that aside.
    async fn goes_on_top_of_what_arrived(d) {
        let (remote, project, user) = edited(&d).await;
        let unknown = arrives_unknown(&d, project, user, "first").await;
        let other = Uuid::new_v4();
        save(&d, project, other, "dir/a.txt", "other\n").await;
        d.git.fail_next(On::Discovery, 100, Fault::Status(500));
        d.git.fail_next(On::UploadPack, 100, Fault::Status(500));
        let put_aside = commit(&d, project, commit_body(other, "Other")).await;
        assert!(put_aside.status >= 400, "the remote moved, and cannot be asked");
        d.git.heal();
        save(&d, project, user, "text.txt", &text(&[("1\n2", "first\n2")])).await;
        let answer = commit(&d, project, commit_body(user, "Second")).await.ok(200);
        assert_eq!(answer["parents"][0], unknown["commit"]);
        assert_eq!(remote.file("text.txt"), text(&[("1\n2", "first\n2")]));
        assert_eq!(remote.count(), 5);
        remote.bare.fsck_strict();
    }
}
