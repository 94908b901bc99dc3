//! Searches of all files beside `git grep`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Bench, PROJECT};
use crate::peers::git;
use crate::plan::Scenario;
use crate::report::{Who, medians_ms};
use crate::server::Http;

/// What is looked for: what nobody wrote, so that all is searched and nothing shown; and a word that some lines have.
const QUERIES: [(&str, &str); 2] = [("that finds nothing", "qzxj qzxj"), ("for a word", "because")];

/// The same searches again and again: caches know the files, as the page cache knows git's pack.
pub async fn all(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Search);
    for (name, query) in QUERIES {
        let (mut ours, mut gits) = (Vec::new(), Vec::new());
        // The first one fills the cache.
        search(http, query).await?;
        for _ in 0..bench.plan.runs {
            let (found, took) = search(http, query).await?;
            let (expected, git_took) = git::grep(&bench.subject.repo, query)?;
            ensure!(found == expected, "a search found other lines than git grep");
            ours.push(vec![took]);
            gits.push(vec![git_took]);
        }
        let (our, theirs) = (medians_ms(&ours), medians_ms(&gits));
        bench.sheet.add_times(Who::Treehold, &format!("search {name}"), &ours);
        bench.sheet.add_times(Who::Peer, &format!("git grep {name}"), &gits);
        bench.sheet.add_ratio(&format!("search {name} / git grep"), &our, &theirs).at_most(1.0);
    }
    Ok(())
}

/// `path:line` of each match, in order, and the time of the requests: one searches so much, and says where the next one goes on.
async fn search(http: &Http, query: &str) -> anyhow::Result<(Vec<String>, Duration)> {
    let (mut found, mut took, mut cursor) = (Vec::new(), Duration::ZERO, Value::Null);
    loop {
        let asked = json!({"query": query, "cursor": cursor});
        let request = http.json(Method::POST, &format!("/projects/{PROJECT}/search"), &asked);
        let reply = http.send(request.header("Accept", "application/x-ndjson")).await?;
        reply.ok()?;
        took += reply.took;
        let text = std::str::from_utf8(&reply.body).context("the answer is not UTF-8")?;
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let lines = lines.context("a line is not JSON")?;
        let hits = lines.iter().filter(|line| line["line"].is_u64());
        let place = |hit: &Value| Some(format!("{}:{}", hit["path"].as_str()?, hit["line"]));
        found.extend(hits.map(place).collect::<Option<Vec<_>>>().context("a match without a path")?);
        let next = &lines.last().context("an answer without an end")?["next_cursor"];
        ensure!(next.is_null() || *next != cursor, "a search goes on where it began");
        if next.is_null() {
            return Ok((found, took));
        }
        cursor = next.clone();
    }
}
