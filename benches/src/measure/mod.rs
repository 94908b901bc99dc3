//! What is measured, in the order in which it is measured. Each outcome is checked outside of the measured time.

mod import;
mod read;
mod remote;
mod start;
mod write;

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use treehold_tests::git::Repo;

use crate::generate;
use crate::plan::Plan;
use crate::report::Sheet;
use crate::setup::Setup;
use crate::stock::{self, File};

/// The name under which the main repository is imported.
const PROJECT: &str = "main";

/// The generated repositories.
pub struct Repositories {
    /// Everything is measured on this one.
    pub main: Repo,
    /// What stock git lists in it.
    pub files: Vec<File>,
    /// Only imported.
    pub other: Repo,
}

impl Repositories {
    /// Generates both.
    pub fn generate(work: &Path, plan: &Plan) -> anyhow::Result<Self> {
        eprintln!("generating repositories of {} and {} files", plan.files, plan.other_files);
        let main = generate::repository(&work.join("main.git"), plan.files, plan.seed)?;
        let other = generate::repository(&work.join("other.git"), plan.other_files, plan.seed.wrapping_add(1))?;
        let (files, _) = stock::list(&main)?;
        anyhow::ensure!(files.len() == plan.files, "{} files were generated", files.len());
        Ok(Self { main, files, other })
    }
}

/// Measures everything in one set-up.
pub async fn all(setup: &Setup, repositories: &Repositories, plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet { setup: setup.kind.name(), rows: Vec::new() };
    let mut chance = Chance::new(plan.seed);
    start::fresh(setup, plan, &mut sheet).await?;
    let place = import::imports(setup, repositories, plan, &mut sheet).await?;
    let server = start::existing(&place, plan, &mut sheet).await?;
    read::batches(server.http(), repositories, plan, &mut chance, &mut sheet).await?;
    read::singles(server.http(), repositories, plan, &mut chance, &mut sheet).await?;
    read::lists(server.http(), repositories, plan, &mut sheet).await?;
    write::autosaves(server.http(), repositories, plan, &mut chance, &mut sheet).await?;
    let head = write::commits(server.http(), repositories, plan, &mut chance, &mut sheet).await?;
    sheet.add("server, peak memory after all of the above", "MiB", vec![server.memory_mib("VmHWM")?]);
    import::exports(setup, &place, repositories, &head, plan, &mut sheet).await?;
    server.stop().await?;
    remote::remote(setup, repositories, plan, &mut chance, &mut sheet).await?;
    Ok(sheet)
}

/// Choices and content, from the seed.
pub struct Chance {
    random: StdRng,
    text: generate::Text,
}

impl Chance {
    fn new(seed: u64) -> Self {
        // Not the seed of the repository: new content must be new.
        Self { random: StdRng::seed_from_u64(seed ^ 0x5eed), text: generate::Text::new(seed ^ 0x7e87) }
    }

    /// `count` different files (all, if there are no more).
    fn files<'f>(&mut self, files: &'f [File], count: usize) -> Vec<&'f File> {
        let picked = rand::seq::index::sample(&mut self.random, files.len(), count.min(files.len()));
        picked.into_iter().map(|index| &files[index]).collect()
    }

    /// New content of exactly `size` bytes.
    fn content(&mut self, size: usize) -> Vec<u8> {
        let mut content = format!("{:032x}\n", self.random.random::<u128>()).into_bytes();
        content.extend(self.text.of_size(size.saturating_sub(content.len())));
        content.truncate(size);
        content
    }
}

/// The oid that git gives a blob.
fn blob_oid(content: &[u8]) -> anyhow::Result<String> {
    let oid = treehold_object::hash(treehold_object::Kind::Blob, content);
    oid.map(|oid| oid.to_string()).map_err(|_| anyhow::anyhow!("content with a SHA-1 collision"))
}
