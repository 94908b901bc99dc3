//! An S3 server in this process: real HTTP on a port of its own, SigV4 and checksums verified, faults on demand.

mod versions;

use crate::scratch::Scratch;
use crate::serving::Serving;
use futures::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const ACCESS_KEY: &str = "AKIDTREEHOLDTEST";
const SECRET_KEY: &str = "treehold-test-secret";
/// The number of key locks. Two keys that share one wait for each other; that costs time, never correctness.
const LOCKS: usize = 256;

/// The server. It runs on a thread and a runtime of its own, so that tests with their own runtimes can share it.
/// Dropped, it stops and its buckets go.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    control: Arc<Control>,
    serving: Mutex<Serving>,
    scratch: Scratch,
}

impl S3Server {
    /// The server that all tests of this process share; give each test a bucket or a prefix, and no faults.
    pub async fn shared() -> &'static S3Server {
        static SHARED: tokio::sync::OnceCell<S3Server> = tokio::sync::OnceCell::const_new();
        SHARED.get_or_init(S3Server::start).await
    }

    /// A server of the caller's own, for tests with faults and counts.
    pub async fn start() -> S3Server {
        let scratch = Scratch::new("treehold-s3-").expect("a temporary directory");
        let control = Arc::new(Control::default());
        let serving = serve(Serving::ANY_PORT, scratch.path(), &control);
        S3Server { address: serving.address(), control, serving: Mutex::new(serving), scratch }
    }

    /// The endpoint: `http://127.0.0.1:PORT`. Buckets are addressed by path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The only access key id that the server knows.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret that belongs to [`S3Server::access_key`].
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Makes a bucket, without a request. Making it again changes nothing.
    pub fn create_bucket(&self, bucket: &str) {
        std::fs::create_dir_all(self.scratch.path().join(bucket)).expect("make the bucket's directory");
    }

    /// From here on the bucket keeps what its keys had before: without a request, as PutBucketVersioning does.
    pub fn keep_versions(&self, bucket: &str) {
        self.control.state().versions.entry(bucket.to_owned()).or_default();
    }

    /// The store URL of `prefix` in `bucket`: `s3://bucket/prefix?endpoint=…&region=us-east-1&path_style=true`.
    pub fn store_url(&self, bucket: &str, prefix: &str) -> String {
        format!("s3://{bucket}/{prefix}?endpoint={}&region=us-east-1&path_style=true", self.url())
    }

    /// The directory that holds the buckets, to look at or to damage what is stored (`bucket/key` is a file).
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// How many requests of each operation arrived (`get_object`, `put_object`, `list_objects_v2`, …), refused
    /// ones included, since the start or the last [`S3Server::reset_requests`].
    pub fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.control.state().requests.clone()
    }

    /// Starts counting from nothing.
    pub fn reset_requests(&self) {
        self.control.state().requests.clear();
    }

    /// Delays every request by `latency` before it is executed.
    pub fn set_latency(&self, latency: Duration) {
        self.control.state().latency = latency;
    }

    /// Gives the next `count` requests of `operation` the same fault, after those that were set before.
    pub fn fail_next(&self, operation: &'static str, count: usize, fault: S3Fault) {
        let mut state = self.control.state();
        state.faults.entry(operation).or_default().extend(std::iter::repeat_n(fault, count));
    }

    /// Forgets all faults and latency.
    pub fn heal(&self) {
        let mut state = self.control.state();
        state.faults.clear();
        state.latency = Duration::ZERO;
    }

    /// Takes the server down: connections break, new ones are refused. What is stored stays.
    pub fn stop(&self) {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).stop();
    }

    /// Brings the server up again, at the same address and over the same buckets.
    pub fn restart(&self) {
        self.stop();
        let serving = serve(self.address, self.scratch.path(), &self.control);
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = serving;
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Fault {
    /// 503 `SlowDown`; the request is not executed.
    SlowDown,
    /// 500 `InternalError`; the request is not executed.
    InternalError,
    /// The request is executed, and the answer is 500 all the same: the caller cannot know.
    LostAnswer,
    /// 403 `AccessDenied`; the request is not executed.
    Denied,
}

/// Serves the buckets under `directory` until told to stop.
fn serve(address: SocketAddr, directory: &Path, control: &Arc<Control>) -> Serving {
    let files = s3s_fs::FileSystem::new(directory).expect("open the directory of buckets");
    let (root, control) = (directory.to_owned(), Arc::clone(control));
    let mut service = S3ServiceBuilder::new(Server { files, root, control, locks: Locks::new() });
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    let http = auto::Builder::new(TokioExecutor::new());
    Serving::start(address, move |stream| {
        let connection = http.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
        async move { drop(connection.await) }
    })
}

/// What a test sets, and what the server counts. Outlives a restart.
#[derive(Debug, Default)]
struct Control(Mutex<ControlState>);

#[derive(Debug, Default)]
struct ControlState {
    requests: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, std::collections::VecDeque<S3Fault>>,
    latency: Duration,
    /// Of buckets that keep versions.
    versions: BTreeMap<String, versions::Versions>,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, ControlState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the request and says what is to go wrong with it.
    fn arrived(&self, operation: &'static str) -> (Duration, Option<S3Fault>) {
        let mut state = self.state();
        *state.requests.entry(operation).or_default() += 1;
        let fault = state.faults.get_mut(operation).and_then(std::collections::VecDeque::pop_front);
        (state.latency, fault)
    }
}

/// Striped locks, one per key: `s3s-fs` checks the condition of a conditional write and then writes, so that two
/// writers could both win.
struct Locks(Vec<tokio::sync::Mutex<()>>);

impl Locks {
    fn new() -> Locks {
        Locks((0..LOCKS).map(|_| tokio::sync::Mutex::default()).collect())
    }

    /// Locks all `keys`, always in the same order, so that two callers cannot wait for each other.
    async fn lock(&self, bucket: &str, keys: &[&str]) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let stripe = |key: &&str| {
            let mut hasher = DefaultHasher::new();
            (bucket, key).hash(&mut hasher);
            hasher.finish() as usize % LOCKS
        };
        let mut stripes: Vec<usize> = keys.iter().map(stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(self.0[stripe].lock().await);
        }
        guards
    }
}

struct Server {
    files: s3s_fs::FileSystem,
    /// The directory of the buckets.
    root: PathBuf,
    control: Arc<Control>,
    locks: Locks,
}

impl Server {
    /// Executes one operation with what a test has set for it.
    async fn faulty<T>(
        &self,
        operation: &'static str,
        execute: impl Future<Output = S3Result<S3Response<T>>>,
    ) -> S3Result<S3Response<T>> {
        let (latency, fault) = self.control.arrived(operation);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match fault {
            None => execute.await,
            Some(S3Fault::SlowDown) => Err(s3_error!(SlowDown, "Please reduce your request rate.")),
            Some(S3Fault::Denied) => Err(s3_error!(AccessDenied, "Access Denied")),
            Some(S3Fault::InternalError) => Err(s3_error!(InternalError, "We encountered an internal error.")),
            Some(S3Fault::LostAnswer) => {
                execute.await?;
                Err(s3_error!(InternalError, "We encountered an internal error."))
            }
        }
    }
}

/// Writes the trait's methods out: each is `faulty` around the same method of `s3s-fs`, or around the one of `Server` that is named
/// after `by` (`at_once`: it waits for nothing), with the keys named after `locking` held. (`#[async_trait]` cannot see methods that a
/// macro makes inside the `impl`, hence the boxes.)
macro_rules! operations {
    (@run $server:ident $from:ident $name:ident) => { $server.files.$name($from).await };
    (@run $server:ident $from:ident $name:ident by $own:ident) => { $server.$own($from).await };
    (@run $server:ident $from:ident $name:ident at_once $own:ident) => { $server.$own(&$from.input) };
    ($(
        $name:ident $input:ident $output:ident
        $(by $by:ident)? $(at_once $once:ident)? $(locking $request:ident $keys:expr)?;
    )*) => {$(
        fn $name<'s, 'f>(&'s self, request: S3Request<$input>) -> BoxFuture<'f, S3Result<S3Response<$output>>>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(self.faulty(stringify!($name), async move {
                $(
                    let _locked = {
                        let $request = &request.input;
                        let keys: Vec<&str> = $keys;
                        self.locks.lock(&$request.bucket, &keys).await
                    };
                )?
                operations!(@run self request $name $(by $by)? $(at_once $once)?)
            }))
        }
    )*};
}

impl S3 for Server {
    operations! {
        create_bucket CreateBucketInput CreateBucketOutput;
        delete_bucket DeleteBucketInput DeleteBucketOutput;
        head_bucket HeadBucketInput HeadBucketOutput;
        list_buckets ListBucketsInput ListBucketsOutput;
        get_bucket_location GetBucketLocationInput GetBucketLocationOutput;
        get_bucket_versioning GetBucketVersioningInput GetBucketVersioningOutput at_once versioning;
        put_bucket_versioning PutBucketVersioningInput PutBucketVersioningOutput at_once set_versioning;
        get_object GetObjectInput GetObjectOutput by get_one;
        head_object HeadObjectInput HeadObjectOutput;
        list_objects ListObjectsInput ListObjectsOutput;
        list_objects_v2 ListObjectsV2Input ListObjectsV2Output;
        list_object_versions ListObjectVersionsInput ListObjectVersionsOutput at_once list_versions;
        put_object PutObjectInput PutObjectOutput by put_one locking put vec![&put.key];
        copy_object CopyObjectInput CopyObjectOutput locking copy vec![&copy.key];
        delete_object DeleteObjectInput DeleteObjectOutput by delete_one locking delete vec![&delete.key];
        delete_objects DeleteObjectsInput DeleteObjectsOutput
            locking delete delete.delete.objects.iter().map(|object| object.key.as_str()).collect();
        create_multipart_upload CreateMultipartUploadInput CreateMultipartUploadOutput;
        upload_part UploadPartInput UploadPartOutput;
        upload_part_copy UploadPartCopyInput UploadPartCopyOutput;
        list_parts ListPartsInput ListPartsOutput;
        abort_multipart_upload AbortMultipartUploadInput AbortMultipartUploadOutput;
        complete_multipart_upload CompleteMultipartUploadInput CompleteMultipartUploadOutput
            locking complete vec![&complete.key];
    }
}
