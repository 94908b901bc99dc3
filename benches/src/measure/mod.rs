//! What is measured, a scenario a file. Each outcome is checked outside of the measured time.

mod autosave;
mod calls;
mod clients;
mod cold;
mod commit;
mod export;
mod feed;
mod forks;
mod import;
mod list;
mod neighbour;
mod read;
mod remote;
mod scale;
mod search;
mod start;
mod tells;
mod upkeep;

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::generate::Text;
use crate::peers::git::File;
use crate::plan::{Plan, Scenario};
use crate::report::Sheet;
use crate::setup::{Kind, Setup};
use crate::subjects::{Extras, Subject};

/// The name under which the subject is imported.
const PROJECT: &str = "main";
/// Files of a batch read.
const BATCH: usize = 100;
/// The scenarios of one server with the subject in it.
const SERVED: [Scenario; 10] = [
    Scenario::Read,
    Scenario::List,
    Scenario::Search,
    Scenario::Autosave,
    Scenario::Feed,
    Scenario::Commit,
    Scenario::Export,
    Scenario::Neighbour,
    Scenario::Clients,
    Scenario::Tells,
];

/// One subject in one set-up.
pub struct Bench<'r> {
    setup: &'r Setup,
    subject: &'r Subject,
    plan: &'r Plan,
    chance: Chance<'r>,
    sheet: Sheet,
}

/// Measures what the plan asks for. `extras` come with the first subject only.
pub async fn all(
    setup: &Setup,
    subject: &Subject,
    extras: Option<&Extras>,
    plan: &Plan,
    text: &Text,
) -> anyhow::Result<Sheet> {
    let sheet = Sheet::new(setup.kind.name(), &subject.name);
    let mut bench = Bench { setup, subject, plan, chance: Chance::new(plan.seed, text), sheet };
    if plan.has(Scenario::Start) {
        start::fresh(&mut bench).await?;
    }
    served(&mut bench).await?;
    if plan.has(Scenario::Remote) {
        remote::all(&mut bench).await?;
    }
    if plan.has(Scenario::Upkeep) {
        upkeep::all(&mut bench).await?;
    }
    if plan.has(Scenario::Calls) {
        calls::all(&mut bench).await?;
    }
    if let Some(Extras { scale, forks }) = extras {
        if let Some(repositories) = scale {
            scale::all(&mut bench, repositories).await?;
        }
        if let Some(repository) = forks {
            forks::all(&mut bench, repository).await?;
        }
    }
    Ok(bench.sheet.in_order())
}

/// What needs the subject imported.
async fn served(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let plan = bench.plan;
    let cold = plan.has(Scenario::Cold) && bench.setup.kind == Kind::PostgresS3;
    let needs_place = cold || plan.has_any(&SERVED) || plan.has(Scenario::Start);
    let place = match (plan.has(Scenario::Import), needs_place) {
        (true, _) => import::all(bench).await?,
        (false, true) => import::once(bench).await?,
        (false, false) => return Ok(()),
    };
    if cold {
        cold::all(bench, &place).await?;
    }
    if plan.has(Scenario::Start) {
        start::existing(bench, &place).await?;
    }
    if !plan.has_any(&SERVED) {
        return Ok(());
    }
    if plan.has(Scenario::Neighbour) {
        neighbour::prepare(bench, &place).await?;
    }
    let server = crate::server::Server::start(&place).await?;
    if plan.has(Scenario::Read) {
        read::batches(bench, server.http()).await?;
        read::singles(bench, server.http()).await?;
    }
    if plan.has(Scenario::List) {
        list::all(bench, &server).await?;
    }
    if plan.has(Scenario::Search) {
        search::all(bench, server.http()).await?;
    }
    if plan.has(Scenario::Autosave) {
        autosave::all(bench, server.http()).await?;
    }
    if plan.has(Scenario::Feed) {
        feed::all(bench, &place, server.http()).await?;
    }
    if plan.has(Scenario::Commit) {
        commit::all(bench, server.http()).await?;
    }
    if plan.has(Scenario::Export) {
        export::all(bench, &place).await?;
    }
    if plan.has(Scenario::Neighbour) {
        neighbour::all(bench, &server).await?;
    }
    if plan.has(Scenario::Clients) {
        clients::all(bench, &server).await?;
    }
    if plan.has(Scenario::Tells) {
        tells::all(bench, server.http()).await?;
    }
    server.stop().await
}

/// Choices and content, from the seed.
struct Chance<'t> {
    random: StdRng,
    text: &'t Text,
}

impl<'t> Chance<'t> {
    fn new(seed: u64, text: &'t Text) -> Self {
        // Not the seed of the repository: new content must be new.
        Self { random: StdRng::seed_from_u64(seed ^ 0x5eed), text }
    }

    /// `count` different files (all, if there are no more).
    fn files<'f>(&mut self, files: &'f [File], count: usize) -> Vec<&'f File> {
        let picked = rand::seq::index::sample(&mut self.random, files.len(), count.min(files.len()));
        picked.into_iter().map(|index| &files[index]).collect()
    }

    /// New content of exactly `size` bytes.
    fn content(&mut self, size: usize) -> Vec<u8> {
        let mut content = format!("{:032x}\n", self.random.random::<u128>()).into_bytes();
        content.extend(self.text.of_size(size.saturating_sub(content.len()), &mut self.random));
        content.truncate(size);
        content
    }

    /// New contents of `count` files.
    fn edits(&mut self, files: &[File], count: usize, size: usize) -> Vec<(String, Vec<u8>)> {
        let paths: Vec<String> = self.files(files, count).into_iter().map(|file| file.path.clone()).collect();
        paths.into_iter().map(|path| (path, self.content(size))).collect()
    }
}

/// The oid that git gives a blob.
fn blob_oid(content: &[u8]) -> anyhow::Result<String> {
    let oid = treehold_object::hash(treehold_object::Kind::Blob, content);
    oid.map(|oid| oid.to_string()).map_err(|_| anyhow::anyhow!("content with a SHA-1 collision"))
}

/// The bytes of each file of an answer to a batch read of `files`, by path. Fails if one of them is wrong.
fn batch_contents(answer: &Value, files: &[&File]) -> anyhow::Result<HashMap<String, Vec<u8>>> {
    use base64::Engine as _;
    let read = answer["files"].as_array().context("no files in the answer")?;
    ensure!(read.len() == files.len(), "{} files of {} were read", read.len(), files.len());
    let mut contents = HashMap::new();
    for (read, file) in read.iter().zip(files) {
        ensure!(read["path"] == json!(file.path), "not {}: {read}", file.path);
        let content = read["content"].as_str().with_context(|| format!("no content: {read}"))?;
        let content = match read["encoding"].as_str() {
            Some("utf-8") => content.as_bytes().to_vec(),
            Some("base64") => base64::engine::general_purpose::STANDARD.decode(content).context("not base64")?,
            other => anyhow::bail!("{} is encoded as {other:?}", file.path),
        };
        ensure!(blob_oid(&content)? == file.oid, "{} was read with wrong bytes", file.path);
        contents.insert(file.path.clone(), content);
    }
    Ok(contents)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> (File, Value) {
        let oid = blob_oid(content.as_bytes()).unwrap();
        let read = json!({"path": path, "encoding": "utf-8", "content": content, "oid": oid});
        (File { path: path.to_owned(), mode: "100644".to_owned(), oid, size: Some(content.len() as u64) }, read)
    }

    #[test]
    fn a_batch_with_wrong_bytes_fails() {
        let ((one, read_one), (two, read_two)) = (file("one", "1\n"), file("two", "2\n"));
        let check = |files: Value| batch_contents(&json!({"files": files}), &[&one, &two]).is_ok();
        assert!(check(json!([read_one, read_two])));
        assert!(check(json!([read_one, {"path": "two", "encoding": "base64", "content": "Mgo="}])));
        assert!(!check(json!([read_two, read_one])));
        assert!(!check(json!([read_one])));
        let mut wrong = read_two.clone();
        wrong["content"] = json!("3\n");
        assert!(!check(json!([read_one, wrong])));
        assert!(!check(json!([read_one, {"path": "two", "error": {"code": "file_not_found"}}])));
    }
}
