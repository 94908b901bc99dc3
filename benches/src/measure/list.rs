//! Lists of all files beside `git ls-tree -r -l`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Bench, PROJECT};
use crate::peers::git;
use crate::plan::Scenario;
use crate::server::{Http, Server, escaped};

/// The largest page of a list.
const PAGE: usize = 10_000;

/// Lists to the last page, and what the server's memory grows by.
pub async fn all(bench: &mut Bench<'_>, server: &Server) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::List);
    let subject = bench.subject;
    let [mut ours, mut gits] = [const { Vec::new() }; 2];
    let (mut growth, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..bench.plan.runs {
        server.forget_peak()?;
        let before = server.memory_mib("VmRSS")?;
        let (pages, took) = list(server.http(), subject.files.len()).await?;
        let peak = server.memory_mib("VmHWM")?;
        growth.push((peak - before).max(0.0));
        peaks.push(peak);
        let listed = files(&pages)?;
        // What a submodule's size is shown as is the server's affair.
        let same = |(ours, git): (&Value, &git::File)| {
            let size = git.size.map_or_else(|| ours[3].clone(), |size| json!(size));
            *ours == json!([git.path, git.mode, git.oid, size])
        };
        let all_same = listed.iter().zip(&subject.files).all(same);
        ensure!(all_same && listed.len() == subject.files.len(), "the list differs from git ls-tree");
        ours.push(vec![took]);
        gits.push(vec![git::list(&subject.repo)?.1]);
    }
    let ms = |runs: &[Vec<Duration>]| -> Vec<f64> {
        runs.iter().flatten().map(|took| took.as_secs_f64() * 1000.0).collect()
    };
    let count = subject.files.len();
    bench.sheet.add(format!("list of {count} files"), "ms", ms(&ours));
    bench.sheet.add_peer("git ls-tree -r -l", "ms", ms(&gits));
    bench.sheet.add_ratio("list / git ls-tree -r -l", &ms(&ours), &ms(&gits)).at_most(1.0);
    bench.sheet.add("list, peak memory of the server", "MiB", peaks);
    bench.sheet.add("list, growth of the server's memory", "MiB", growth);
    Ok(())
}

fn files(pages: &[Vec<u8>]) -> anyhow::Result<Vec<Value>> {
    let mut listed = Vec::new();
    for page in pages {
        let page: Value = serde_json::from_slice(page).context("a page is not JSON")?;
        let files = page["files"].as_array().context("no files in the answer")?;
        listed.extend(files.iter().map(|file| json!([file["path"], file["mode"], file["oid"], file["size"]])));
    }
    Ok(listed)
}

/// All pages, and the time of their requests.
async fn list(http: &Http, files: usize) -> anyhow::Result<(Vec<Vec<u8>>, Duration)> {
    let (mut pages, mut took) = (Vec::new(), Duration::ZERO);
    let mut cursor: Option<String> = None;
    for _ in 0..=files.div_ceil(PAGE) {
        let cursor_query = cursor.map(|cursor| format!("&cursor={}", escaped(&cursor))).unwrap_or_default();
        let path = format!("/files/{PROJECT}?limit={PAGE}{cursor_query}");
        let reply = http.send(http.request(Method::GET, &path)).await?;
        took += reply.took;
        cursor = reply.json()?["next_cursor"].as_str().map(str::to_owned);
        pages.push(reply.body);
        if cursor.is_none() {
            return Ok((pages, took));
        }
    }
    anyhow::bail!("the list does not end")
}
