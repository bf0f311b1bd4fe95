//! Who does work that waits for a storage: threads, or tasks where time is simulated.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::JoinError;

use super::StorageLock;

/// How long a piece of work with files takes, where time is simulated.
pub trait Pace: fmt::Debug + Send + Sync + 'static {
    /// The time that the next one takes.
    fn next(&self) -> Duration;
}

/// Does a piece of work that blocks; see [`Workers::offload`].
pub type Offload =
    Arc<dyn Fn(Box<dyn FnOnce() + Send>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Who does the work of a storage: its logs have workers of their own, and recovery reads whole
/// files.
#[derive(Debug, Clone, Default)]
pub enum Workers {
    /// Threads: the storage blocks whoever calls it.
    #[default]
    Threads,
    /// Tasks of the runtime that opens a log: the storage answers at once, and each piece of work
    /// takes as long as the pace says, in the time of that runtime.
    Tasks(Arc<dyn Pace>),
}

impl Workers {
    /// Does some work that blocks, off the runtime's threads.
    ///
    /// # Errors
    ///
    /// When it panicked in a thread; in a task the panic is the caller's.
    ///
    /// # Cancel safety
    ///
    /// In a thread, work that has begun goes on when the future is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await,
            Self::Tasks(pace) => {
                tokio::time::sleep(pace.next()).await;
                Ok(work())
            }
        }
    }

    /// [`Self::run`] as a value, for who knows nothing of storages and waits for no result.
    #[must_use]
    pub fn offload(&self) -> Offload {
        let workers = self.clone();
        Arc::new(move |work| {
            let workers = workers.clone();
            Box::pin(async move {
                if let Err(error) = workers.run(work).await {
                    tracing::error!(%error, "work that blocks broke");
                }
            })
        })
    }

    /// Lets the time of one piece of work pass. A thread spends it in the call itself.
    pub(crate) async fn pass(&self) {
        match self {
            Self::Threads => {}
            Self::Tasks(pace) => tokio::time::sleep(pace.next()).await,
        }
    }
}

/// A worker that runs.
#[derive(Debug)]
pub(crate) enum Worker {
    Thread(std::thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Worker {
    /// Runs a worker until it ends by itself. One that runs in a thread never waits but by blocking.
    #[expect(clippy::disallowed_methods, reason = "driver: the log owns its workers")]
    pub(crate) fn spawn(
        workers: &Workers,
        name: String,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<Self> {
        match workers {
            Workers::Threads => {
                std::thread::Builder::new().name(name).spawn(move || finish(body)).map(Self::Thread)
            }
            Workers::Tasks(_) => Ok(Self::Task(tokio::spawn(body))),
        }
    }
}

impl Worker {
    /// Waits until it has ended: for a thread that is about to.
    pub(crate) async fn ended(self) -> Result<(), Panicked> {
        match self {
            Self::Thread(thread) => thread.join().map_err(|_| Panicked),
            Self::Task(task) => task.await.map_err(|_| Panicked),
        }
    }
}

/// Waits for workers that are ending, the last one first, and gives their lock back then. Blocks on
/// threads; tasks are waited for by another one.
pub(crate) fn release_after(
    workers: Vec<Worker>,
    lock: Option<Box<dyn StorageLock>>,
) -> Result<(), Panicked> {
    let (mut tasks, mut ended) = (Vec::new(), Ok(()));
    for worker in workers.into_iter().rev() {
        match worker {
            Worker::Thread(thread) => ended = thread.join().map_err(|_| Panicked).and(ended),
            Worker::Task(task) => tasks.push(task),
        }
    }
    if !tasks.is_empty()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn(async move {
            for task in tasks {
                drop(task.await);
            }
            drop(lock);
        });
    }
    ended
}

/// Runs a future that blocks wherever it waits.
fn finish(body: impl Future<Output = ()>) {
    let body = pin!(body);
    let ended = body.poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(ended.is_ready(), "invariant: a worker in a thread blocks");
}

/// A future whose panic is an answer.
pub(crate) async fn guarded(body: impl Future<Output = ()>) -> Result<(), Panicked> {
    let mut body = pin!(body);
    std::future::poll_fn(move |ctx| {
        let body: Pin<&mut _> = body.as_mut();
        match catch_unwind(AssertUnwindSafe(|| body.poll(ctx))) {
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

/// The work of a worker panicked: a bug of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;
