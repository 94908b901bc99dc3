//! Reads over HTTP beside stock git.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Chance, PROJECT, Repositories, blob_oid};
use crate::plan::Plan;
use crate::report::Sheet;
use crate::server::{Http, escaped};
use crate::stock::{self, CatFile, File};

/// Files in a batch read.
const BATCH: usize = 100;
/// The largest page of a list.
const PAGE: usize = 10_000;

/// Batch reads of random files; each batch is read by stock git, too, right after.
pub async fn batches(
    http: &Http,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let mut kept = CatFile::start(&repositories.main)?;
    let [mut ours, mut processes, mut running]: [Vec<Vec<Duration>>; 3] = Default::default();
    for _ in 0..plan.runs {
        let [mut our, mut process, mut run] = [const { Vec::new() }; 3];
        for _ in 0..plan.batches {
            let files = chance.files(&repositories.files, BATCH);
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            let request = http.json(Method::POST, &format!("/projects/{PROJECT}/read"), &json!({"paths": paths}));
            let reply = http.send(request).await?;
            our.push(reply.took);
            check_batch(&reply.json()?, &files)?;
            process.push(stock::read_batch(&repositories.main, &files)?);
            run.push(kept.read(&files)?);
        }
        ours.push(our);
        processes.push(process);
        running.push(run);
    }
    sheet.add_times("batch read of 100 files", &ours);
    sheet.add_times("  git cat-file --batch, a process each", &processes);
    sheet.add_times("  git cat-file, kept running", &running);
    sheet.add_ratio("batch read / git cat-file --batch, a process each", &ours, &processes);
    sheet.add_ratio("batch read / git cat-file, kept running", &ours, &running);
    Ok(())
}

fn check_batch(answer: &Value, files: &[&File]) -> anyhow::Result<()> {
    let read = answer["files"].as_array().context("no files in the answer")?;
    ensure!(read.len() == files.len(), "{} files of {} were read", read.len(), files.len());
    for (read, file) in read.iter().zip(files) {
        ensure!(read["path"] == json!(file.path) && read["encoding"] == "utf-8", "not {}: {read}", file.path);
        let content = read["content"].as_str().context("no content")?;
        ensure!(blob_oid(content.as_bytes())? == file.oid, "{} was read with wrong bytes", file.path);
    }
    Ok(())
}

/// Reads of one random file, one after the other, on one connection.
pub async fn singles(
    http: &Http,
    repositories: &Repositories,
    plan: &Plan,
    chance: &mut Chance,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let [mut ours, mut gits]: [Vec<Vec<Duration>>; 2] = Default::default();
    for _ in 0..plan.runs {
        let [mut our, mut git] = [const { Vec::new() }; 2];
        for file in chance.files(&repositories.files, plan.singles) {
            let path = format!("/files/{PROJECT}/{}", escaped(&file.path));
            let reply = http.send(http.request(Method::GET, &path)).await?;
            our.push(reply.took);
            reply.ok()?;
            ensure!(blob_oid(&reply.body)? == file.oid, "{} was read with wrong bytes", file.path);
            git.push(stock::read_one(&repositories.main, file)?);
        }
        ours.push(our);
        gits.push(git);
    }
    sheet.add_times("read of one file", &ours);
    sheet.add_times("  git cat-file blob, a process each", &gits);
    sheet.add_ratio("read of one file / git cat-file blob", &ours, &gits);
    Ok(())
}

/// Lists of all files, to the last page.
pub async fn lists(http: &Http, repositories: &Repositories, plan: &Plan, sheet: &mut Sheet) -> anyhow::Result<()> {
    let [mut ours, mut gits]: [Vec<Vec<Duration>>; 2] = Default::default();
    for _ in 0..plan.runs {
        let (listed, took) = list(http, repositories.files.len()).await?;
        let same = listed
            .iter()
            .zip(&repositories.files)
            .all(|(ours, git)| *ours == json!([git.path, git.mode, git.oid, git.size]));
        ensure!(same && listed.len() == repositories.files.len(), "the list differs from git ls-tree");
        ours.push(vec![took]);
        gits.push(vec![stock::list(&repositories.main)?.1]);
    }
    let ms = |runs: &[Vec<Duration>]| runs.iter().flatten().map(|took| took.as_secs_f64() * 1000.0).collect();
    sheet.add(format!("list of {} files", repositories.files.len()), "ms", ms(&ours));
    sheet.add("  git ls-tree -r -l", "ms", ms(&gits));
    sheet.add_ratio("list / git ls-tree -r -l", &ours, &gits);
    Ok(())
}

/// `[path, mode, oid, size]` of every file, and the time of all pages.
async fn list(http: &Http, files: usize) -> anyhow::Result<(Vec<Value>, Duration)> {
    let (mut listed, mut took) = (Vec::with_capacity(files), Duration::ZERO);
    let mut cursor: Option<String> = None;
    for _ in 0..=files.div_ceil(PAGE) {
        let cursor_query = cursor.map(|cursor| format!("&cursor={}", escaped(&cursor))).unwrap_or_default();
        let path = format!("/files/{PROJECT}?limit={PAGE}{cursor_query}");
        let reply = http.send(http.request(Method::GET, &path)).await?;
        took += reply.took;
        let page = reply.json()?;
        let files = page["files"].as_array().context("no files in the answer")?;
        listed.extend(files.iter().map(|file| json!([file["path"], file["mode"], file["oid"], file["size"]])));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok((listed, took));
        }
    }
    anyhow::bail!("the list does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> (File, Value) {
        let oid = blob_oid(content.as_bytes()).unwrap();
        let read = json!({"path": path, "encoding": "utf-8", "content": content, "oid": oid});
        (File { path: path.to_owned(), mode: "100644".to_owned(), oid, size: content.len() as u64 }, read)
    }

    #[test]
    fn a_batch_with_wrong_bytes_fails() {
        let ((one, read_one), (two, read_two)) = (file("one", "1\n"), file("two", "2\n"));
        let check = |files: Value| check_batch(&json!({"files": files}), &[&one, &two]).is_ok();
        assert!(check(json!([read_one, read_two])));
        assert!(!check(json!([read_two, read_one])));
        assert!(!check(json!([read_one])));
        let mut wrong = read_two.clone();
        wrong["content"] = json!("3\n");
        assert!(!check(json!([read_one, wrong])));
        assert!(!check(json!([read_one, {"path": "two", "error": {"code": "file_not_found"}}])));
    }
}
