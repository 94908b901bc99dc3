//! Git objects in a bucket, laid out as git does on disk.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use treehold_object::pack::Span;
use treehold_object::zlib::Deflater;
use treehold_object::{Kind, ObjectId};

use crate::bucket::{Bucket, Payload, Put};
use crate::cache::{CacheOptions, CacheStats, ObjectCache};
use crate::decode::{self, Decode, Verified};
use crate::deltas::{Chains, Resolver};
use crate::error::StoreError;
use crate::key;
use crate::pack_builder::{FinishedPack, PackBuilder};
use crate::raw_pack::Indexes;
use crate::runs::{Member, Run, plan};

/// No joined range is longer, bytes.
const RUN_MAX: u64 = 8 << 20;
/// A window of a stream holds at most so much content (a single object may be larger), bytes.
const WINDOW_BYTES: u64 = 8 << 20;
/// And at most so many objects.
const WINDOW_OBJECTS: usize = 1024;
/// Windows of a stream that are read at the same time.
const WINDOWS_AHEAD: usize = 2;
/// zlib level of packs that stay: git's own.
const DENSE_LEVEL: u32 = 6;
/// More content than this is inflated, deflated and hashed away from the threads that serve connections, bytes.
const INLINE_MAX: u64 = 256 << 10;

/// How an [`ObjectStore`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Calls to the bucket at the same time, by all clones of the store together.
    pub parallel: usize,
    /// From this size on a pack is full, bytes.
    pub pack_bytes: u64,
    /// Entries of a pack this close are read with one range, bytes.
    pub coalesce_gap: u64,
    /// zlib level, 0 to 9.
    pub compression: u32,
    /// For packs under way. Made when needed; on the same file system as a directory bucket it saves a copy.
    pub spool_dir: PathBuf,
    /// What is kept nearer than the bucket.
    pub cache: CacheOptions,
}

impl StoreOptions {
    /// The defaults; without a cache.
    pub fn new(spool_dir: PathBuf) -> Self {
        let cache = CacheOptions::default();
        let (pack_bytes, coalesce_gap) = (64 << 20, 256 << 10);
        Self { parallel: 128, pack_bytes, coalesce_gap, compression: 1, spool_dir, cache }
    }
}

/// Where an object is, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The object.
    pub oid: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Size of its content, bytes.
    pub size: u64,
    /// Bucket key. Ends in `.pack` for a pack, else it is a loose object.
    pub key: String,
    /// Where its entry starts, bytes. 0 for a loose object.
    pub offset: u64,
    /// Length of its entry, bytes.
    pub length: u64,
    /// Where it is a delta: the entries in the same pack that it rests on, nearest first, the last one whole. Else empty.
    pub bases: Vec<Span>,
}

/// An object, verified when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub oid: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Its content, without git's header.
    pub content: Bytes,
}

/// An object's zlib stream as packs hold it, verified when it was read: to be copied into other packs as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// The object.
    pub oid: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Size of its content, bytes.
    pub size: u64,
    /// Inflates to its content. May keep the bytes around it in memory: copy it to hold on to it.
    pub zlib: Bytes,
}

/// A loose object that is durable in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object.
    pub oid: ObjectId,
    /// Its type.
    pub kind: Kind,
    /// Size of its content, bytes.
    pub size: u64,
    /// SHA-256 of type, size and content.
    pub sha256: [u8; 32],
    /// Its bucket key.
    pub key: String,
    /// Always 0.
    pub offset: u64,
    /// Length of the value, bytes.
    pub length: u64,
}

impl Stored {
    /// How to read it.
    pub fn location(&self) -> Location {
        let Self { oid, kind, size, offset, length, .. } = *self;
        Location { oid, kind, size, key: self.key.clone(), offset, length, bases: Vec::new() }
    }
}

/// The only way to stored content. Clones share the bucket and the limit on parallel calls.
///
/// 1. *Honest.* Content is returned only if it has the type, the size and, by collision-detecting SHA-1, the id that
///    were asked for; else the object is `Corrupt`. It is read a second time first, since bytes break on the way, too.
///    What comes from a cache was verified like that when it came in, and if it was on disk since, again.
/// 2. *Bounded.* Memory is reserved for what the location announces and no more; nothing is inflated beyond it.
/// 3. *Durable on return* are objects and packs that were put, as [`Bucket`] has it.
///
/// It knows neither projects nor rights, and no name but those it is told: both are the catalog's.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bucket: Arc<dyn Bucket>,
    options: StoreOptions,
    permits: Semaphore,
    /// Groups of deltas that are read at the same time.
    chains: Semaphore,
    /// Parts of them that are applied at the same time: what their chains take is known late.
    making: Semaphore,
    cache: Option<Arc<ObjectCache>>,
    indexes: Indexes,
}

impl ObjectStore {
    /// Over a bucket that already retries ([`crate::Retrying`]).
    pub fn new(bucket: Arc<dyn Bucket>, options: StoreOptions) -> Self {
        let permits = Semaphore::new(options.parallel.clamp(1, Semaphore::MAX_PERMITS));
        let cache = ObjectCache::new(&options.cache).map(Arc::new);
        let turns = std::thread::available_parallelism().map_or(4, |cores| cores.get().max(4));
        let (chains, making) = (Semaphore::new(turns), Semaphore::new(turns));
        Self { inner: Arc::new(Inner { bucket, options, permits, chains, making, cache, indexes: Indexes::default() }) }
    }

    pub(crate) fn indexes(&self) -> &Indexes {
        &self.inner.indexes
    }

    /// Leave to make one call to the bucket.
    pub(crate) async fn permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.inner.permits.acquire().await.ok()
    }

    /// What it was made with.
    pub fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// The bucket below: for listing its keys and checking it, not for content.
    pub fn bucket(&self) -> &Arc<dyn Bucket> {
        &self.inner.bucket
    }

    /// One object. Errors as [`Self::get_many`].
    pub async fn get(&self, location: &Location) -> Result<Object, StoreError> {
        let mut answers = self.get_many(std::slice::from_ref(location)).await;
        answers.pop().unwrap_or_else(|| Err(missing(&location.key)))
    }

    /// Objects, in the order asked for; each has an answer of its own. All of them are in memory at the end.
    ///
    /// `Missing`: the bucket has no such key. `Corrupt`: what is there is not the object. `Unavailable`, `Refused`: as
    /// the bucket says.
    ///
    /// What the cache has is not read, what it lacks is put there, and what somebody else is reading is waited for.
    pub async fn get_many(&self, locations: &[Location]) -> Vec<Result<Object, StoreError>> {
        match &self.inner.cache {
            None => self.read(locations, decode::object).await,
            Some(cache) => self.read_through(cache, locations).await,
        }
    }

    /// Those of the objects that are at hand, in the order given: from memory or local disk, verified, without a word to the bucket.
    ///
    /// After `bytes_max` bytes of content no more are looked for; the last of them may go beyond it.
    ///
    /// For ids that the caller may read already. The cache is shared by all projects, so that asking first and checking rights
    /// later would tell what others have stored.
    pub async fn cached(&self, oids: &[ObjectId], bytes_max: u64) -> Vec<Option<Object>> {
        match &self.inner.cache {
            None => vec![None; oids.len()],
            Some(cache) => cache.lookup(oids, true, bytes_max).await,
        }
    }

    /// Keeps objects that were just stored in memory, as far as they fit: they are likely to be read next. For a commit, not for an
    /// import, which would put out everything else.
    pub async fn keep(&self, objects: Vec<Object>) {
        if let Some(cache) = self.inner.cache.clone() {
            let bytes = objects.iter().map(|object| object.content.len() as u64).sum();
            off_thread(bytes, move || cache.keep(&objects)).await;
        }
    }

    /// What the cache did and holds; `None`: there is none.
    pub fn cache_stats(&self) -> Option<CacheStats> {
        self.inner.cache.as_ref().map(|cache| cache.stats())
    }

    /// Waits until what came into the cache so far is on disk or dropped: for tests and for a shutdown in good order.
    pub async fn flush_cache(&self) {
        if let Some(cache) = self.inner.cache.clone() {
            off_thread(u64::MAX, move || cache.flush()).await;
        }
    }

    /// As [`Self::get_many`], but from the bucket, whatever the cache has, which is left as it is: for who rewrites or checks what
    /// is stored.
    pub async fn get_stored(&self, locations: &[Location]) -> Vec<Result<Object, StoreError>> {
        self.read(locations, decode::object).await
    }

    /// Their zlib streams instead of their content; everything else as [`Self::get_many`].
    pub async fn get_entries(&self, locations: &[Location]) -> Vec<Result<StoredEntry, StoreError>> {
        self.read(locations, decode::entry(self.inner.options.compression)).await
    }

    /// Any number of objects in the order asked for, read a few megabytes ahead of the consumer. What the cache has is used, but
    /// nothing is put there: a walk through everything would put out what is read often.
    pub fn stream_many(
        &self,
        locations: Vec<Location>,
    ) -> impl Stream<Item = Result<Object, StoreError>> + Send + 'static + use<> {
        let store = self.clone();
        stream(locations, move |window| {
            let store = store.clone();
            async move {
                match &store.inner.cache {
                    None => store.read(&window, decode::object).await,
                    Some(cache) => store.read_past(cache, &window).await,
                }
            }
        })
    }

    /// Any number of zlib streams in the order asked for, likewise, but always from the bucket: the cache has no such streams, and
    /// neighbours come with one request whether or not some of them are at hand.
    pub fn stream_entries(
        &self,
        locations: Vec<Location>,
    ) -> impl Stream<Item = Result<StoredEntry, StoreError>> + Send + 'static + use<> {
        let store = self.clone();
        stream(locations, move |window| {
            let store = store.clone();
            async move { store.get_entries(&window).await }
        })
    }

    /// Up to which gap ranges are joined, and how long they become, bytes.
    pub(crate) fn run_limits(&self) -> (u64, u64) {
        (self.inner.options.coalesce_gap, RUN_MAX)
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        locations: &[Location],
        decode: impl Decode<T>,
    ) -> Vec<Result<T, StoreError>> {
        let runs = plan(locations, self.inner.options.coalesce_gap, RUN_MAX);
        let mut answers: Vec<Option<Result<T, StoreError>>> = Vec::new();
        answers.resize_with(locations.len(), || None);
        // Tasks of their own go on while the caller waits for something else, and give their permits back.
        let runs = runs.into_iter().map(|run| spawn(self.clone().read_run(run, decode.clone())).left_future());
        let chains = Chains::of(locations).into_iter();
        let chains = chains.map(|chains| spawn(self.clone().read_chains(chains, decode.clone())).right_future());
        let mut tasks = stream::iter(runs.chain(chains)).buffer_unordered(self.inner.options.parallel.max(1));
        while let Some(run) = tasks.next().await {
            for (at, answer) in run {
                if let Some(place) = answers.get_mut(at) {
                    *place = Some(answer);
                }
            }
        }
        let filled = answers.into_iter().zip(locations);
        filled.map(|(answer, location)| answer.unwrap_or_else(|| Err(missing(&location.key)))).collect()
    }

    async fn read_run<T: Send + 'static>(
        self,
        run: Run,
        decode: impl Decode<T>,
    ) -> Vec<(usize, Result<T, StoreError>)> {
        let _permit = self.inner.permits.acquire().await;
        let bytes = match self.inner.bucket.get(&run.key, Some(run.range.clone())).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return run.members.iter().map(|member| (member.at, Err(missing(&run.key)))).collect(),
            Err(err) => return decode::share(run.members.iter().map(|member| member.at), err),
        };
        let content: u64 = run.members.iter().map(|member| member.size).sum();
        let (run, decoded) = off_thread(content, {
            let decode = decode.clone();
            move || {
                let decoded = decode::all(&run, &bytes, &decode);
                (run, decoded)
            }
        })
        .await;
        let mut answers = Vec::with_capacity(decoded.len());
        for (member, value) in run.members.into_iter().zip(decoded) {
            let at = member.at;
            let answer = match value {
                Some(value) => Ok(value),
                None => {
                    let alone = Run { key: run.key.clone(), range: member.range(), members: vec![member] };
                    self.read_again(alone, decode.clone()).await
                }
            };
            answers.push((at, answer));
        }
        answers
    }

    /// Deltas of one pack. Each waits only for what it rests on itself, so that some are made, on whatever core is free, while the bytes of
    /// others are on their way.
    async fn read_chains<T: Send + 'static>(
        self,
        chains: Chains,
        decode: impl Decode<T>,
    ) -> Vec<(usize, Result<T, StoreError>)> {
        let _turn = self.inner.chains.acquire().await;
        // Many small parts are much work, too.
        let together = chains.content();
        let parts = chains.apart(self.inner.options.coalesce_gap, RUN_MAX).into_iter();
        let parts = parts.map(|part| spawn(self.clone().read_part(part, together, decode.clone())));
        let made: Vec<_> = stream::iter(parts).buffer_unordered(self.inner.options.parallel.max(1)).collect().await;
        made.into_iter().flatten().collect()
    }

    /// Deltas that are made together, of all those whose content is `together` bytes. What does not come out right is read a second time, alone.
    async fn read_part<T: Send + 'static>(
        self,
        chains: Chains,
        together: u64,
        decode: impl Decode<T>,
    ) -> Vec<(usize, Result<T, StoreError>)> {
        let places: Vec<usize> = chains.members.iter().map(|(at, _)| *at).collect();
        let made = match self.make_chains(&chains, together, &decode).await {
            Ok(made) => made,
            Err(err) => return decode::share(places, err),
        };
        let mut answers = Vec::with_capacity(places.len());
        for ((at, location), value) in chains.members.into_iter().zip(made) {
            let answer = match value {
                Some(value) => Ok(value),
                None => {
                    let corrupt = StoreError::Corrupt { id: location.oid, key: chains.key.clone() };
                    let alone = Chains { key: chains.key.clone(), members: vec![(at, location)] };
                    match self.make_chains(&alone, together, &decode).await {
                        Ok(mut again) => again.pop().flatten().ok_or_else(|| damaged(corrupt)),
                        Err(err) => Err(err),
                    }
                }
            };
            answers.push((at, answer));
        }
        answers
    }

    /// In the order of the members; `None` for those that are not what they must be.
    async fn make_chains<T: Send + 'static>(
        &self,
        chains: &Chains,
        together: u64,
        decode: &impl Decode<T>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let ranges = chains.ranges(self.inner.options.coalesce_gap, RUN_MAX);
        let pieces = ranges.into_iter().map(|range| async {
            let _permit = self.inner.permits.acquire().await;
            let start = range.start;
            let bytes = self.inner.bucket.get(&chains.key, Some(range)).await?;
            bytes.map(|bytes| (start, bytes)).ok_or_else(|| missing(&chains.key))
        });
        let pieces: Vec<(u64, Bytes)> =
            stream::iter(pieces).buffer_unordered(self.inner.options.parallel.max(1)).try_collect().await?;
        let (members, decode) = (chains.members.clone(), decode.clone());
        let _making = self.inner.making.acquire().await;
        // Bases may be larger than what is made of them.
        let work = together.saturating_add(pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum());
        Ok(off_thread(work, move || {
            let mut resolver = Resolver::new(pieces);
            let made = members.iter().map(|(at, location)| {
                let content = resolver.content(location)?;
                Some(decode(&Member::of(*at, location), Verified::content(content)))
            });
            made.collect()
        })
        .await)
    }

    /// Bytes that broke on the way come out right the second time; bytes that broke where they lie do not.
    async fn read_again<T: Send + 'static>(&self, run: Run, decode: impl Decode<T>) -> Result<T, StoreError> {
        let Some(id) = run.members.first().map(|member| member.oid) else { return Err(missing(&run.key)) };
        let corrupt = StoreError::Corrupt { id, key: run.key.clone() };
        let bytes = self.inner.bucket.get(&run.key, Some(run.range.clone())).await?;
        let bytes = bytes.ok_or_else(|| missing(&run.key))?;
        let content = run.members.iter().map(|member| member.size).sum();
        let decoded = off_thread(content, move || decode::all(&run, &bytes, &decode).pop()).await;
        decoded.flatten().ok_or_else(|| damaged(corrupt))
    }

    /// Writes one object under [`key::loose_key`], a name the caller has reserved. Its id is the caller's word.
    ///
    /// `Occupied`: the name holds other bytes. Repeating a call is safe.
    pub async fn put_loose(&self, oid: ObjectId, kind: Kind, content: Bytes) -> Result<Stored, StoreError> {
        let store = self.clone();
        spawn(store.write_loose(Object { oid, kind, content })).await
    }

    /// Writes loose objects in parallel, in the order given. On an error the others may have been written or not.
    pub async fn put_loose_many(&self, objects: Vec<Object>) -> Result<Vec<Stored>, StoreError> {
        let tasks = objects.into_iter().map(|object| spawn(self.clone().write_loose(object)));
        let written: Vec<_> = stream::iter(tasks).buffered(self.inner.options.parallel.max(1)).collect().await;
        written.into_iter().collect()
    }

    async fn write_loose(self, object: Object) -> Result<Stored, StoreError> {
        let _permit = self.inner.permits.acquire().await;
        let Object { oid, kind, content } = object;
        let (size, level, key) = (content.len() as u64, self.inner.options.compression, key::loose_key(&oid));
        let (sha256, value) = off_thread(size, move || {
            debug_assert_eq!(treehold_object::hash(kind, &content), Ok(oid), "an object under a wrong name");
            let value = treehold_object::loose::encode(kind, &content, &mut Deflater::new(level));
            (treehold_object::hash::sha256(kind, &content), Bytes::from(value))
        })
        .await;
        let length = value.len() as u64;
        let _: Put = self.inner.bucket.put(&key, Payload::Bytes(value)).await?;
        Ok(Stored { oid, kind, size, sha256, key, offset: 0, length })
    }

    /// A new pack.
    pub fn pack_builder(&self) -> PackBuilder {
        let StoreOptions { spool_dir, compression, pack_bytes, .. } = &self.inner.options;
        PackBuilder::new(spool_dir.clone(), *compression, *pack_bytes)
    }

    /// A new pack for objects that stay: smaller, and slower to make.
    pub fn dense_pack_builder(&self) -> PackBuilder {
        let StoreOptions { spool_dir, pack_bytes, .. } = &self.inner.options;
        PackBuilder::new(spool_dir.clone(), DENSE_LEVEL, *pack_bytes)
    }

    /// One pack of the given objects, built away from the threads that serve connections.
    pub async fn build_pack(&self, objects: Vec<Object>) -> Result<FinishedPack, StoreError> {
        let mut builder = self.pack_builder();
        off_thread(u64::MAX, move || {
            for Object { oid, kind, content } in objects {
                builder.add(oid, kind, &content)?;
            }
            builder.finish()
        })
        .await
    }

    /// Writes a pack under `key` ([`crate::pack_key`]) and its index beside it; both are durable on return.
    ///
    /// `Refused`: `key` is not the key of a pack. `Occupied`: it is in use. Repeating a call is safe.
    pub async fn put_pack(&self, pack: &FinishedPack, key: &str) -> Result<(), StoreError> {
        let idx_key = idx_key("put", &self.inner.bucket, key)?;
        // One permit for both calls: two that each hold one and wait for another would wait for ever.
        let _permit = self.inner.permits.acquire().await;
        let idx = self.inner.bucket.put(&idx_key, Payload::Bytes(pack.idx.clone()));
        let (pack, idx) = tokio::join!(self.inner.bucket.put(key, pack.payload()), idx);
        pack.and(idx).map(|_: Put| ())
    }

    /// Removes a loose object, or a pack and its index: the index first, so that git never sees one without its pack.
    /// What is not there is removed already.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if let Some(idx_key) = key::idx_key(key) {
            self.inner.bucket.delete(&idx_key).await?;
        }
        self.inner.bucket.delete(key).await
    }
}

fn damaged(corrupt: StoreError) -> StoreError {
    tracing::error!(error = %corrupt, "stored bytes are damaged");
    corrupt
}

/// Reads window after window, a few at a time.
fn stream<T: Send + 'static, F: Future<Output = Vec<Result<T, StoreError>>> + Send + 'static>(
    locations: Vec<Location>,
    read: impl Fn(Vec<Location>) -> F + Send + 'static,
) -> impl Stream<Item = Result<T, StoreError>> + Send + 'static {
    stream::iter(windows(locations))
        .map(move |window| spawn(read(window)))
        .buffered(WINDOWS_AHEAD)
        .flat_map(stream::iter)
}

pub(crate) fn missing(key: &str) -> StoreError {
    StoreError::Missing { key: key.to_owned() }
}

fn idx_key(action: &'static str, bucket: &Arc<dyn Bucket>, key: &str) -> Result<String, StoreError> {
    let refused = || StoreError::Refused {
        action,
        store: bucket.name(),
        source: format!("{key:?} is not the key of a pack").into(),
    };
    key::idx_key(key).ok_or_else(refused)
}

/// Consecutive parts of a long list, each of bounded content.
fn windows(locations: Vec<Location>) -> impl Iterator<Item = Vec<Location>> + Send + 'static {
    let mut rest = locations.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let mut window = Vec::new();
        while let Some(next) = rest.peek() {
            bytes = bytes.saturating_add(next.size);
            if !window.is_empty() && (bytes > WINDOW_BYTES || window.len() >= WINDOW_OBJECTS) {
                break;
            }
            window.extend(rest.next());
        }
        (!window.is_empty()).then_some(window)
    })
}

/// A task that ends with its handle.
async fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    finished(AbortOnDropHandle::new(tokio::spawn(task.in_current_span()))).await
}

/// CPU work on `content` bytes: here if it is little, else on a thread for that.
pub(crate) async fn off_thread<T: Send + 'static>(content: u64, work: impl FnOnce() -> T + Send + 'static) -> T {
    if content <= INLINE_MAX { work() } else { finished(tokio::task::spawn_blocking(work)).await }
}

/// A task fails only by panicking, or because the runtime shuts down: then nobody is left to answer, and this never does.
pub(crate) async fn finished<T>(task: impl Future<Output = Result<T, tokio::task::JoinError>>) -> T {
    match task.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => std::future::pending().await,
    }
}
