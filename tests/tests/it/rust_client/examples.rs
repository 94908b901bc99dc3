//! The client's shapes against the examples of the document: nothing that the server says is lost.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use treehold_client as c;
use treehold_server::ServerConfig;

/// Reads it as the client does, and writes it again.
fn again<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

type Reader = fn(&Value) -> Result<Value, String>;

/// What the client takes a shape of the document for.
fn reader(shape: &str) -> Option<Reader> {
    Some(match shape {
        "ProjectView" => again::<c::ProjectView>,
        "ProjectPage" => again::<c::ProjectPage>,
        "FileList" => again::<c::FileList>,
        "PendingAnswer" => again::<c::PendingAnswer>,
        "PendingList" => again::<c::PendingList>,
        "DropAnswer" => again::<c::DropAnswer>,
        "BatchAnswer" => again::<c::BatchAnswer>,
        "OpResult" => again::<c::OpResult>,
        "Status" => again::<c::Status>,
        "ConflictPage" => again::<c::ConflictPage>,
        "CommitAnswer" => again::<c::CommitAnswer>,
        "SyncAnswer" => again::<c::SyncAnswer>,
        "PushAnswer" => again::<c::PushAnswer>,
        "ChangePage" => again::<c::ChangePage>,
        "Blame" => again::<c::Blame>,
        "LogPage" => again::<c::LogPage>,
        "RefList" => again::<c::RefList>,
        "RefView" => again::<c::RefView>,
        "Promoted" => again::<c::Promoted>,
        "ReflogPage" => again::<c::ReflogPage>,
        "VersionList" => again::<c::VersionList>,
        "CheckpointList" => again::<c::CheckpointList>,
        "CheckpointEntry" => again::<c::CheckpointEntry>,
        "CheckpointDetail" => again::<c::CheckpointDetail>,
        "CheckpointRestored" => again::<c::CheckpointRestored>,
        "Diff" => again::<c::Diff>,
        "TreeDiff" => again::<c::TreeDiff>,
        "PullPage" => again::<c::PullPage>,
        "PullView" => again::<c::PullView>,
        "OpenedPull" => again::<c::OpenedPull>,
        "RemoteView" => again::<c::RemoteView>,
        _ => return None,
    })
}

/// Goal: the client knows all that the server says. Method: each example of an answer, read and written again by the client.
#[test]
fn nothing_is_lost() {
    let document = treehold_server::document(&ServerConfig::default());
    let mut known = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            for (status, answer) in operation["responses"].as_object().expect("responses") {
                let told = &answer["content"]["application/json"];
                let shape = told["schema"]["$ref"].as_str().and_then(|place| place.rsplit('/').next());
                let Some((reader, example)) = shape.and_then(reader).zip(told.get("example")) else { continue };
                let read =
                    reader(example).unwrap_or_else(|error| panic!("{method} {path} {status}: {error}: {example:#}"));
                assert_eq!(read, *example, "{method} {path} {status}");
                known.push(shape);
            }
        }
    }
    known.sort_unstable();
    known.dedup();
    assert!(known.len() >= 20, "the document has examples of only {known:?}");
}

/// Goal: a newer server's answers do not break this client. Method: fields and kinds that nobody knows yet.
#[test]
fn what_is_new_is_taken() {
    let event = r#"{"cursor":"c","at":"2026-11-26T12:00:00.000Z","kind":"weather","sun":true}"#;
    let event: c::ChangeEvent = serde_json::from_str(event).expect("an event");
    assert_eq!(event.told, c::EventView::Other);
    let drop: c::DropAnswer = serde_json::from_str(r#"{"revision":1,"dropped":2,"new":3}"#).expect("an answer");
    assert_eq!(drop, c::DropAnswer { revision: 1, dropped: 2 });
}
