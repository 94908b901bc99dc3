//! One life of the process: a runtime that dies with everything in it, and lets one step be taken at a time.

use std::collections::HashMap;
use std::future::Future;
use std::io::{Read, Seek};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::gate::{DEED, Gate};

/// How long nothing may happen before the test gives up.
const STUCK: Duration = Duration::from_secs(60);
/// So often in a row everybody must be asleep before the next step is granted.
const QUIET: u32 = 3;

/// Something that is done in a life.
pub type Deed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whoever waits for the runtime to have nothing to do.
#[derive(Default)]
struct Idle {
    waker: Option<Waker>,
    idle: bool,
}

pub struct Life {
    runtime: Option<Runtime>,
    idle: Arc<Mutex<Idle>>,
    gate: Arc<Gate>,
}

impl Life {
    pub fn new(gate: &Arc<Gate>) -> Life {
        let idle = Arc::<Mutex<Idle>>::default();
        let parks = Arc::clone(&idle);
        let parked = move || {
            let mut idle = parks.lock().expect("a lock");
            idle.idle = true;
            if let Some(waker) = idle.waker.take() {
                waker.wake();
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(parked).build();
        Life { runtime: Some(runtime.expect("a runtime")), idle, gate: Arc::clone(gate) }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("alive")
    }

    /// Works while nothing goes wrong.
    pub fn calm<T>(&self, work: impl Future<Output = T>) -> T {
        self.gate.calm(true);
        self.runtime().block_on(work)
    }

    /// Does all deeds at once, step by step. `None`: the process died first.
    pub fn storm<T: Send + 'static>(&self, deeds: Vec<(&'static str, Deed<T>)>) -> Vec<Option<T>> {
        self.gate.calm(false);
        self.runtime().block_on(async {
            let tasks: Vec<_> = deeds.into_iter().map(|(deed, work)| tokio::spawn(DEED.scope(deed, work))).collect();
            let mut threads = Threads::default();
            let (mut quiet, mut arrivals, mut since) = (0, 0, Instant::now());
            std::future::poll_fn(|cx| {
                if self.gate.is_dead() || tasks.iter().all(tokio::task::JoinHandle::is_finished) {
                    return Poll::Ready(());
                }
                let mut idle = self.idle.lock().expect("a lock");
                idle.waker = Some(cx.waker().clone());
                if !std::mem::take(&mut idle.idle) {
                    return Poll::Pending;
                }
                drop(idle);
                assert!(since.elapsed() < STUCK, "nothing happens any more:\n{}", self.gate.trace());
                if self.gate.waits_outside() || !threads.asleep() {
                    quiet = 0;
                    std::thread::sleep(Duration::from_micros(20));
                    return Poll::Pending;
                }
                let now = self.gate.arrivals();
                quiet = if now == arrivals { quiet + 1 } else { 0 };
                arrivals = now;
                if quiet >= QUIET {
                    quiet = 0;
                    match self.gate.grant() {
                        true => since = Instant::now(),
                        // Somebody waits for time to pass.
                        false => std::thread::sleep(Duration::from_micros(200)),
                    }
                }
                Poll::Pending
            })
            .await;
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(if task.is_finished() { Some(task.await.expect("no panic")) } else { None });
            }
            answers
        })
    }
}

impl Drop for Life {
    /// As kill -9: nothing that is under way goes on.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

/// The other threads of this process, as the kernel sees them.
#[derive(Default)]
struct Threads {
    own: Option<String>,
    open: HashMap<String, std::fs::File>,
}

impl Threads {
    /// Whether all of them wait for something.
    fn asleep(&mut self) -> bool {
        let own = self.own.get_or_insert_with(|| {
            let link = std::fs::read_link("/proc/thread-self").expect("Linux");
            link.file_name().expect("a thread").to_string_lossy().into_owned()
        });
        let mut gone = std::mem::take(&mut self.open);
        let mut asleep = true;
        for entry in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == *own {
                continue;
            }
            let file = gone.remove(&name).or_else(|| std::fs::File::open(entry.path().join("stat")).ok());
            let Some(mut file) = file else { continue };
            let mut stat = [0; 256];
            let len = file.rewind().and_then(|()| file.read(&mut stat)).unwrap_or(0);
            let stat = &stat[..len];
            let state = stat.iter().rposition(|&byte| byte == b')').and_then(|at| stat.get(at + 2));
            // A thread that has just ended cannot be read any more.
            asleep &= state.is_none_or(|&state| matches!(state, b'S' | b'Z' | b'X'));
            self.open.insert(name, file);
        }
        asleep
    }
}
