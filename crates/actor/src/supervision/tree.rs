//! What every actor of the tree is doing, for `/status` and for whoever stops it in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::time::{UnixMillis, WallClock};
use ractor::{ActorCell, ActorId};
use serde::Serialize;

/// Longest reason of an end that is kept, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// What an actor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// It takes messages.
    Running,
    /// It ended, and is started again after its backoff.
    Restarting,
    /// It ended, and nobody starts it again by itself.
    Ended,
}

/// One actor of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorStatus {
    /// Where it is: the names from the root on, with `/` between them.
    pub actor: String,
    /// What it is doing.
    pub activity: ActorState,
    /// How often it was started again.
    pub restarts: u64,
    /// Since when it does that, in Unix milliseconds.
    pub since_ms: u64,
    /// Why it ended last.
    pub last_exit: Option<String>,
}

/// The place of an actor: the names from the root on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TreePath(Arc<str>);

impl TreePath {
    /// The root itself.
    pub(crate) fn root() -> Self {
        Self("root".into())
    }

    /// A child.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name, which metrics and logs use.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    fn is_above(&self, other: &Self) -> bool {
        other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

#[derive(Debug)]
struct Node {
    status: ActorStatus,
    cell: Option<ActorCell>,
}

/// All actors. Outlives each of them.
#[derive(Debug)]
pub(crate) struct Tree {
    clock: Arc<dyn WallClock>,
    nodes: Mutex<BTreeMap<TreePath, Node>>,
}

impl Tree {
    pub(crate) fn new(clock: Arc<dyn WallClock>) -> Self {
        Self { clock, nodes: Mutex::default() }
    }

    /// An actor runs.
    pub(crate) fn handle_started(&self, path: &TreePath, cell: ActorCell) {
        let now = self.clock.now();
        let mut nodes = self.lock();
        let node = nodes.entry(path.clone()).or_insert_with(|| Node::new(path, now));
        node.status.activity = ActorState::Running;
        node.status.since_ms = now.0;
        node.cell = Some(cell);
    }

    /// An actor ended; all below it did as well. Of no effect when that actor (`who`) was followed by
    /// another one already.
    pub(crate) fn handle_ended(
        &self,
        path: &TreePath,
        who: Option<ActorId>,
        activity: ActorState,
        reason: &str,
    ) {
        let now = self.clock.now();
        let mut nodes = self.lock();
        let present = nodes.get(path).and_then(|node| node.cell.as_ref()).map(ActorCell::get_id);
        if who.zip(present).is_some_and(|(who, present)| who != present) {
            return;
        }
        for (place, node) in &mut *nodes {
            if path.is_above(place) && node.status.activity == ActorState::Running {
                node.end(now, ActorState::Ended, "its supervisor ended");
            }
        }
        let node = nodes.entry(path.clone()).or_insert_with(|| Node::new(path, now));
        node.end(now, activity, reason);
        if activity == ActorState::Restarting {
            node.status.restarts += 1;
        }
    }

    /// All of it stopped.
    pub(crate) fn handle_stopped(&self) {
        let now = self.clock.now();
        for node in self.lock().values_mut().filter(|it| it.status.activity != ActorState::Ended) {
            node.end(now, ActorState::Ended, "the tree stopped");
        }
    }

    /// All of them, parents before their children.
    pub(crate) fn statuses(&self) -> Vec<ActorStatus> {
        self.lock().values().map(|node| node.status.clone()).collect()
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<(String, ActorCell)> {
        let nodes = self.lock();
        let running = nodes.iter().filter_map(|(path, node)| {
            let cell = node.cell.clone()?;
            (node.status.activity == ActorState::Running).then(|| (path.0.to_string(), cell))
        });
        running.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TreePath, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn new(path: &TreePath, now: UnixMillis) -> Self {
        let status = ActorStatus {
            actor: path.0.to_string(),
            activity: ActorState::Ended,
            restarts: 0,
            since_ms: now.0,
            last_exit: None,
        };
        Self { status, cell: None }
    }

    fn end(&mut self, now: UnixMillis, activity: ActorState, reason: &str) {
        let mut reason = reason.to_owned();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        self.status.activity = activity;
        self.status.since_ms = now.0;
        self.status.last_exit = Some(reason);
        self.cell = None;
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::time::SystemClock;

    use super::*;

    #[test]
    fn who_ends_takes_those_below_along_and_nobody_else() {
        let tree = Tree::new(Arc::new(SystemClock));
        let root = TreePath::root();
        let (system, systems) = (root.child("system"), root.child("systems"));
        let stream = system.child("stream");
        for path in [&system, &systems, &stream] {
            let mut node = Node::new(path, UnixMillis(1));
            node.status.activity = ActorState::Running;
            tree.lock().insert(path.clone(), node);
        }
        tree.handle_ended(&system, None, ActorState::Restarting, "told to");
        let said: Vec<_> = tree
            .statuses()
            .into_iter()
            .map(|it| (it.actor, it.activity, it.restarts, it.last_exit))
            .collect();
        let above = Some("its supervisor ended".to_owned());
        assert_eq!(
            said,
            [
                ("root/system".to_owned(), ActorState::Restarting, 1, Some("told to".to_owned())),
                ("root/system/stream".to_owned(), ActorState::Ended, 0, above),
                ("root/systems".to_owned(), ActorState::Running, 0, None),
            ]
        );
    }
}
