//! The live streams: their tasks, what they can be told, and how to reach a plain one.
//!
//! Not their conversations: see [`crate::plain`] and [`crate::session`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::time::UnixMillis;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Dialect;
use crate::misbehaviour::{Misbehaviour, Misdeed, Witness};
use crate::sync::lock;

/// Answers and pushes that wait for one plain stream. More are dropped: the peer asks again.
pub(crate) const PUSHES_MAX: usize = 1024;

/// Acts that a stream may be behind before it misses one.
const ACTS_MAX: usize = 16;

/// Names one live stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamKey(u64);

impl StreamKey {
    /// The number in it.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// What happens once, to every live stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Close,
    Drain(Duration),
}

#[derive(Debug)]
struct Live {
    node_id: Option<String>,
    dialect: Dialect,
    address: String,
    since: UnixMillis,
    cancel: CancellationToken,
    pushes: Option<mpsc::Sender<StreamResponse>>,
}

/// A live stream, as `/status` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct LiveStatus {
    node_id: Option<String>,
    dialect: Dialect,
    address: String,
    since_ms: u64,
}

/// All live streams.
#[derive(Debug)]
pub(crate) struct Streams {
    flags: watch::Sender<Misbehaviour>,
    witness: Witness,
    acts: broadcast::Sender<Act>,
    live: Mutex<BTreeMap<StreamKey, Live>>,
    tasks: Mutex<JoinSet<()>>,
    opened: AtomicU64,
    /// Cancelled when the node stops: streams close politely.
    pub(crate) shutdown: CancellationToken,
}

/// What one stream holds of [`Streams`].
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) key: StreamKey,
    pub(crate) flags: watch::Receiver<Misbehaviour>,
    pub(crate) acts: broadcast::Receiver<Act>,
    /// Ends the stream at once.
    pub(crate) cancel: CancellationToken,
}

impl Streams {
    pub(crate) fn new(flags: Misbehaviour, witness: Witness, shutdown: CancellationToken) -> Self {
        Self {
            flags: watch::Sender::new(flags),
            witness,
            acts: broadcast::Sender::new(ACTS_MAX),
            live: Mutex::default(),
            tasks: Mutex::default(),
            opened: AtomicU64::new(0),
            shutdown,
        }
    }

    /// The standing flags now.
    pub(crate) fn flags(&self) -> Misbehaviour {
        self.flags.borrow().clone()
    }

    pub(crate) fn set_flags(&self, flags: Misbehaviour) {
        self.flags.send_replace(flags);
    }

    /// Something was done wrong, as told.
    pub(crate) fn did(&self, misdeed: Misdeed) {
        self.witness.hear(misdeed);
    }

    /// The stream that is cut takes the flag with it.
    pub(crate) fn clear_disconnect(&self) {
        self.flags.send_modify(|flags| flags.disconnect_mid_batch = None);
    }

    /// Tells every live stream. Returns how many there are.
    pub(crate) fn act(&self, act: Act) -> usize {
        self.acts.send(act).unwrap_or(0)
    }

    /// Registers a stream.
    pub(crate) fn open(&self, dialect: Dialect, address: String, since: UnixMillis) -> Ears {
        let key = StreamKey(self.opened.fetch_add(1, Ordering::Relaxed) + 1);
        let cancel = CancellationToken::new();
        let live =
            Live { node_id: None, dialect, address, since, cancel: cancel.clone(), pushes: None };
        lock(&self.live).insert(key, live);
        Ears { key, flags: self.flags.subscribe(), acts: self.acts.subscribe(), cancel }
    }

    /// The peer said who it is. Earlier streams of the same name and dialect end: the newest counts.
    pub(crate) fn identify(
        &self,
        key: StreamKey,
        node_id: &str,
        pushes: Option<mpsc::Sender<StreamResponse>>,
    ) {
        let mut live = lock(&self.live);
        let Some(dialect) = live.get(&key).map(|stream| stream.dialect) else {
            return;
        };
        for (other, stream) in live.iter_mut() {
            if *other == key {
                stream.node_id = Some(node_id.to_owned());
                stream.pushes.clone_from(&pushes);
            } else if stream.dialect == dialect
                && dialect == Dialect::Session
                && stream.node_id.as_deref() == Some(node_id)
            {
                stream.cancel.cancel();
            }
        }
    }

    pub(crate) fn closed(&self, key: StreamKey) {
        lock(&self.live).remove(&key);
    }

    /// Hands something to a plain stream without waiting. Returns whether it was taken.
    pub(crate) fn push(&self, key: StreamKey, response: StreamResponse) -> bool {
        let live = lock(&self.live);
        let pushes = live.get(&key).and_then(|stream| stream.pushes.as_ref());
        pushes.is_some_and(|pushes| pushes.try_send(response).is_ok())
    }

    /// Hands something to every plain stream. Returns how many took it.
    pub(crate) fn push_all(&self, response: &StreamResponse) -> usize {
        let live = lock(&self.live);
        live.values()
            .filter_map(|stream| stream.pushes.as_ref())
            .filter(|pushes| pushes.try_send(response.clone()).is_ok())
            .count()
    }

    /// Runs the conversation of a stream as a task that this value owns.
    pub(crate) fn spawn(&self, conversation: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(conversation);
    }

    /// Waits until every stream has ended, or ends them at the deadline. Returns how many it ended.
    pub(crate) async fn finish(&self, deadline: Duration) -> usize {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return 0;
        }
        let late = tasks.len();
        tracing::warn!(streams = late, "streams did not finish in time and are cut");
        tasks.shutdown().await;
        late
    }

    /// Ends every stream at once.
    pub(crate) fn abort(&self) {
        lock(&self.tasks).abort_all();
    }

    pub(crate) fn status(&self) -> Vec<LiveStatus> {
        lock(&self.live)
            .values()
            .map(|stream| LiveStatus {
                node_id: stream.node_id.clone(),
                dialect: stream.dialect,
                address: stream.address.clone(),
                since_ms: stream.since.0,
            })
            .collect()
    }

    /// How many streams of a dialect are live.
    pub(crate) fn count(&self, dialect: Dialect) -> usize {
        lock(&self.live).values().filter(|stream| stream.dialect == dialect).count()
    }
}
