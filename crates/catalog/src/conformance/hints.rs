use uuid::Uuid;

use super::*;
use crate::{RemoteHint, RemoteReport};

fn report(delivery: &str, url: &str, content: Option<&str>, at_ms: i64) -> RemoteReport {
    RemoteReport {
        delivery: delivery.to_owned(),
        urls: vec![url.to_owned()],
        name: "refs/heads/main".to_owned(),
        oid: content.map(oid),
        at_ms,
        forget_before_ms: 0,
    }
}

async fn on(case: &Case, url: Option<&str>) -> Uuid {
    let id = Uuid::new_v4();
    let new = Project { remote_url: url.map(str::to_owned), ..new_project(id, None) };
    case.catalog.create_project(&new).await.expect("create");
    id
}

pub(super) async fn reach_every_project_with_the_remote(case: Case) {
    let mut same = Vec::new();
    for url in ["https://host/o/R", "https://HOST/o/r.git", "https://host/O/r/", "https://host/o/r.GIT/"] {
        same.push(on(&case, Some(url)).await);
    }
    let mut others = vec![on(&case, None).await];
    for url in ["https://host/o/r2", "https://host/o", "http://host/o/r", "https://host/o/r.git.git"] {
        others.push(on(&case, Some(url)).await);
    }
    let catalog = &case.catalog;
    let told = catalog.report_remote(&report("1", "https://host/o/r", Some("a"), NOW)).await.expect("report");
    assert_eq!(told, Some(4));
    let hint = RemoteHint { oid: Some(oid("a")), at_ms: NOW };
    for project in same {
        assert_eq!(catalog.remote_hint(project, "refs/heads/main").await.expect("read"), Some(hint));
        assert_eq!(catalog.remote_hint(project, "refs/heads/other").await.expect("read"), None);
        assert_eq!(catalog.may_read(project, &[oid("a")]).await.expect("read"), [false], "a word opens nothing");
    }
    for project in others {
        assert_eq!(catalog.remote_hint(project, "refs/heads/main").await.expect("read"), None);
    }
}

pub(super) async fn count_once_and_until_the_remote_was_asked(case: Case) {
    let (project, catalog) = (on(&case, Some("https://host/o/r")).await, &case.catalog);
    let read = || async { catalog.remote_hint(project, "refs/heads/main").await.expect("read") };
    let first = report("1", "https://host/o/r", Some("a"), NOW);
    let racing = (0..8).map(|_| {
        let (catalog, first) = (catalog.clone(), first.clone());
        async move { catalog.report_remote(&first).await.expect("report") }
    });
    assert_eq!(together(racing).await.into_iter().flatten().collect::<Vec<_>>(), [1], "one of them is the first");
    let gone = report("2", "https://host/o/r", None, NOW + 10);
    assert_eq!(catalog.report_remote(&gone).await.expect("report"), Some(1));
    assert_eq!(catalog.report_remote(&first).await.expect("report"), None, "an old one again");
    assert_eq!(read().await, Some(RemoteHint { oid: None, at_ms: NOW + 10 }));
    catalog.forget_hint(project, "refs/heads/main", NOW + 9).await.expect("forget");
    assert!(read().await.is_some(), "it came after the remote was asked");
    catalog.forget_hint(project, "refs/heads/main", NOW + 10).await.expect("forget");
    assert_eq!(read().await, None);
    // What is old enough is remembered no longer.
    let later = RemoteReport { forget_before_ms: NOW + 5, ..report("3", "https://host/o/r", Some("b"), NOW + 20) };
    assert_eq!(catalog.report_remote(&later).await.expect("report"), Some(1));
    assert_eq!(catalog.report_remote(&gone).await.expect("report"), None);
    assert_eq!(catalog.report_remote(&first).await.expect("report"), Some(1));
    assert!(catalog.delete_project(project).await.expect("delete"));
    assert_eq!(read().await, None);
}
