//! Repairs from a bucket that keeps what its keys had before they were overwritten or deleted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_sdk_s3::Client;
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use serde_json::{Value, json};
use treehold_tests::git::Repo;
use treehold_tests::s3::S3Fault;

use crate::aftermath::random;
use crate::deployment::Deployment;
use crate::harness::s3::client;
use crate::verify::{commit, furnish};

const BUCKET: &str = "treehold";

/// The deployment's bucket as another client of the server sees it, who overwrites and deletes what they like.
struct Operator {
    client: Client,
    prefix: String,
    objects: PathBuf,
}

impl Operator {
    async fn of(d: &Deployment) -> Operator {
        let s3 = &d.own().s3;
        Operator { client: client(s3, s3.secret_key()), prefix: d.prefix.clone(), objects: d.objects_dir().await }
    }

    /// `name`: below `objects/`.
    async fn put(&self, name: &str, value: Vec<u8>) {
        let key = format!("{}/objects/{name}", self.prefix);
        self.client.put_object().bucket(BUCKET).key(key).body(value.into()).send().await.expect("a put");
    }

    async fn delete(&self, name: &str) {
        let key = format!("{}/objects/{name}", self.prefix);
        self.client.delete_object().bucket(BUCKET).key(key).send().await.expect("a deletion");
    }

    /// Packs and indexes by their names below `objects/`.
    fn packs(&self) -> BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(self.objects.join("pack")).expect("packs").flatten();
        let read = |file: std::fs::DirEntry| {
            let name = format!("pack/{}", file.file_name().to_str().expect("UTF-8"));
            (name, std::fs::read(file.path()).expect("a file"))
        };
        files.map(read).collect()
    }

    /// Removes packs and indexes so that no version of them is kept.
    fn lose_packs(&self) {
        for name in self.packs().keys() {
            std::fs::remove_file(self.objects.join(name)).expect("remove");
        }
    }

    /// Damages a pack in one of eight ways.
    async fn damage(&self, kind: usize, pack: &str, value: &[u8], random: &mut StdRng) {
        let idx = pack.replace(".pack", ".idx");
        let mut garbage = || {
            let mut garbage = vec![0; value.len()];
            random.fill_bytes(&mut garbage);
            garbage
        };
        match kind % 8 {
            0 => self.put(pack, garbage()).await,
            1 => self.put(pack, value[..value.len() / 2].to_vec()).await,
            2 => self.delete(pack).await,
            3 => {
                let (mut flipped, at) = (value.to_vec(), random.random_range(12..value.len() - 20));
                flipped[at] ^= 1u8 << random.random_range(0..8u32);
                self.put(pack, flipped).await;
            }
            4 => {
                self.delete(&idx).await;
                self.delete(pack).await;
            }
            5 => {
                self.put(&idx, garbage()).await;
                self.put(pack, garbage()).await;
            }
            6 => {
                // No index is left anywhere.
                std::fs::remove_file(self.objects.join(&idx)).expect("remove");
                self.put(pack, garbage()).await;
            }
            _ => {
                self.put(pack, garbage()).await;
                self.delete(pack).await;
                self.put(pack, garbage()).await;
            }
        }
    }
}

/// A deployment of its own, in which nothing is at hand but what the bucket and the database have.
async fn uncached() -> Deployment {
    let mut d = Deployment::start_alone().await;
    d.set("TREEHOLD_CACHE_MEMORY", "0");
    d.set("TREEHOLD_CACHE_DISK", "0");
    d.kill();
    d.up().await;
    d
}

async fn verify(d: &Deployment, options: &[&str]) -> Value {
    let done = d.cli(&[&["admin", "verify", "--full", "--json"], options].concat()).await;
    let words = || format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", words()))
}

/// Errors that were not repaired.
fn open(report: &Value) -> Vec<&Value> {
    let findings = report["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["level"] == "error" && finding["repaired"] == false).collect()
}

/// Verifies with repair: something was wrong, and all of it is mended.
async fn mends(d: &Deployment, when: &str) {
    let report = verify(d, &["--repair"]).await;
    assert!(report["errors"].as_u64() > Some(0) && open(&report).is_empty(), "{when}: {:#?}", open(&report));
    let again = verify(d, &[]).await;
    assert_eq!(again["errors"], 0, "{when}, after the repair: {again:#}");
}

/// Goal: whatever becomes of packs and indexes in a bucket that keeps versions, a repair mends it by adding, and changes nothing that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_packs_are_mended() {
    let mut random = random("damaged packs are mended");
    let mut d = uncached().await;
    d.own().s3.keep_versions(BUCKET);
    let project = furnish(&d, &mut random).await;
    d.stop().await;
    assert_eq!(verify(&d, &[]).await["errors"], 0, "before");
    let operator = Operator::of(&d).await;
    let packs = operator.packs();
    let first: usize = random.random_range(0..8);
    let mut kinds = 0;
    for (at, (name, value)) in packs.iter().filter(|(name, _)| name.ends_with(".pack")).enumerate() {
        operator.damage(first + at, name, value, &mut random).await;
        kinds += 1;
    }
    assert!(kinds >= 5, "{kinds} packs were damaged");
    let before = operator.packs();
    d.own().s3.reset_requests();
    mends(&d, "packs").await;
    let (after, requests) = (operator.packs(), d.own().s3.requests());
    assert!(before.iter().all(|(name, value)| after.get(name) == Some(value)), "something was changed or deleted");
    assert!(!requests.keys().any(|operation| operation.starts_with("delete")), "{requests:?}");
    d.up().await;
    d.export(project).await;
}

/// Goal: a loose object that was deleted, and a pack that the ledger gave up, are good enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_objects_and_packs_are_found() {
    let mut d = uncached().await;
    d.own().s3.keep_versions(BUCKET);
    let project = d.local_project().await;
    for number in 0..3 {
        commit(&d, project, number).await;
    }
    d.kill();
    let operator = Operator::of(&d).await;
    // Loose objects, of which only older versions are left; of the packs there are none.
    let scratch = tempfile::tempdir().expect("a directory");
    let loose = Repo::init_bare(scratch.path().join("loose.git"));
    for (_, pack) in operator.packs().iter().filter(|(name, _)| name.ends_with(".pack")) {
        loose.git().run_with(["unpack-objects", "-q"], pack);
    }
    for oid in loose.git().run(["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]).lines() {
        let name = format!("{}/{}", &oid[..2], &oid[2..]);
        operator.put(&name, std::fs::read(loose.path().join("objects").join(&name)).expect("a loose object")).await;
        operator.delete(&name).await;
    }
    operator.lose_packs();
    mends(&d, "loose objects").await;

    d.up().await;
    for number in 3..6 {
        commit(&d, project, number).await;
    }
    let done = d.cli(&["admin", "repack", "--grace", "0s", "--json"]).await;
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert!(report["deleted"].as_u64() >= Some(3), "{report}");
    d.kill();
    // What they were joined into is lost for good.
    operator.lose_packs();
    mends(&d, "deleted packs").await;
    d.up().await;
    d.export(project).await;
}

/// Goal: a bucket without older versions, or one that does not show them, leaves a repair where it was; that it was refused is said once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_or_not_shown_is_reported() {
    let mut d = uncached().await;
    let project = d.local_project().await;
    commit(&d, project, 0).await;
    d.kill();
    let operator = Operator::of(&d).await;
    let s3 = &d.own().s3;
    let packs = operator.packs();
    let (name, value) = packs.iter().find(|(name, _)| name.ends_with(".pack")).expect("a pack");
    operator.delete(name).await;
    s3.reset_requests();
    let report = verify(&d, &["--repair"]).await;
    assert!(!open(&report).is_empty() && report["codes"]["versions_unread"].is_null(), "{report:#}");
    assert_eq!(s3.requests().get("list_object_versions"), None, "none are kept");
    operator.put(name, value.clone()).await;
    assert_eq!(verify(&d, &[]).await["errors"], 0);

    s3.keep_versions(BUCKET);
    operator.delete(name).await;
    s3.reset_requests();
    s3.fail_next("get_bucket_versioning", 1, S3Fault::Denied);
    s3.fail_next("list_object_versions", 1, S3Fault::Denied);
    let report = verify(&d, &["--repair"]).await;
    assert!(!open(&report).is_empty() && report["codes"]["versions_unread"] == json!(1), "{report:#}");
    assert_eq!(s3.requests().get("list_object_versions"), Some(&1), "a refusal is final");
    s3.heal();
    mends(&d, "shown again").await;
}
