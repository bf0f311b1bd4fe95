//! Everything that a disk is, and what its calls do to it. No locks, no threads, no time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::names::{Names, NodeId};
use super::node::Node;
use super::{Crash, Harm, Image, Witness};

pub(super) struct State {
    rng: Rng,
    nodes: BTreeMap<NodeId, Node>,
    next_node: u64,
    names: Names,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    pub(super) generation: u64,
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
    /// The power fails in the sync with this number.
    pub(super) crash_in_sync: Option<u64>,
    pub(super) is_down: bool,
    pub(super) syncs: Countdown,
    pub(super) dir_syncs: Countdown,
    pub(super) uses_after_failed_sync: u64,
    pub(super) space: Option<u64>,
    pub(super) witness: Option<Witness>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("generation", &self.generation)
            .field("calls", &self.calls)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Counts calls of one kind and says which of them fail.
#[derive(Debug, Default)]
pub(super) struct Countdown {
    pub(super) done: u64,
    /// The first that fails, and the first that does not any more.
    failing: Option<(u64, u64)>,
}

impl Countdown {
    pub(super) fn fail(&mut self, skip: u64, count: u64) {
        let first = self.done.saturating_add(skip);
        self.failing = Some((first, first.saturating_add(count)));
    }

    fn is_failing(&mut self) -> bool {
        let number = self.done;
        self.done += 1;
        self.failing.is_some_and(|(first, end)| (first..end).contains(&number))
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// The power fails before its effect, or after.
    Dies {
        is_done: bool,
    },
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            nodes: BTreeMap::new(),
            next_node: 0,
            names: Names::default(),
            dirs: BTreeSet::new(),
            locks: BTreeSet::new(),
            generation: 0,
            calls: 0,
            crash_at: None,
            crash_in_sync: None,
            is_down: false,
            syncs: Countdown::default(),
            dir_syncs: Countdown::default(),
            uses_after_failed_sync: 0,
            space: None,
            witness: None,
        }
    }

    /// Counts a call of a mount and decides about it.
    pub(super) fn begin_call(&mut self, generation: u64) -> io::Result<Fate> {
        self.check_alive(generation)?;
        self.calls += 1;
        if self.crash_at.is_none_or(|call| self.calls < call) {
            return Ok(Fate::Lives);
        }
        self.is_down = true;
        Ok(Fate::Dies { is_done: self.rng.bool() })
    }

    /// K4: only the mount of the process that runs is answered.
    pub(super) fn check_alive(&self, generation: u64) -> io::Result<()> {
        if self.is_down || self.generation != generation {
            return Err(power_lost());
        }
        Ok(())
    }

    fn tell(&self, harm: Harm) {
        if let Some(witness) = &self.witness {
            witness(harm);
        }
    }

    pub(super) fn crash(&mut self, crash: Crash) {
        let Self { nodes, names, rng, .. } = self;
        let mut torn = 0;
        match crash {
            Crash::Kill => nodes.values_mut().for_each(Node::kill),
            Crash::Lose => {
                names.lose();
                nodes.values_mut().for_each(Node::lose);
            }
            Crash::Tear => {
                names.lose_in_part(rng);
                for node in nodes.values_mut() {
                    torn += usize::from(node.lose_in_part(rng));
                }
            }
        }
        let named: BTreeSet<NodeId> =
            names.cached().values().chain(names.stored().values()).copied().collect();
        nodes.retain(|id, _| named.contains(id));
        (0..torn).for_each(|_| self.tell(Harm::Torn));
        self.locks.clear();
        self.generation += 1;
        self.calls = 0;
        self.crash_at = None;
        self.crash_in_sync = None;
        self.is_down = false;
        self.syncs = Countdown::default();
        self.dir_syncs = Countdown::default();
    }

    pub(super) fn create_dir(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_path_buf));
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) {
            return Err(not_found());
        }
        let inside = self.names.cached().keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<NodeId> {
        let has_dir = path.parent().is_some_and(|dir| self.dirs.contains(dir));
        if !has_dir {
            return Err(not_found());
        }
        if self.names.find(path).is_some() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let id = self.add_node(Node::default());
        self.names.put(path, id);
        Ok(id)
    }

    fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<NodeId> {
        self.names.find(path).ok_or_else(not_found)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from.parent() != to.parent() {
            return Err(io::Error::from(io::ErrorKind::CrossesDevices));
        }
        let node = self.names.find(from).ok_or_else(not_found)?;
        self.names.rename(from, to, node);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.names.find(path).ok_or_else(not_found)?;
        self.names.remove(path);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if self.dir_syncs.is_failing() {
            self.tell(Harm::DirSyncFailed);
            return Err(sync_failed());
        }
        self.names.sync(dir);
        Ok(())
    }

    /// `false` when it is held already.
    pub(super) fn lock(&mut self, path: &Path) -> bool {
        self.locks.insert(path.to_path_buf())
    }

    /// Of a mount that crashed nothing is held any more.
    pub(super) fn unlock(&mut self, path: &Path, generation: u64) {
        if self.generation == generation {
            self.locks.remove(path);
        }
    }

    pub(super) fn size(&self, id: NodeId) -> io::Result<u64> {
        self.node(id).map(|node| to_u64(node.cached_bytes().len()))
    }

    pub(super) fn read(&self, id: NodeId, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let cached = self.node(id)?.cached_bytes();
        let from = to_usize(offset).min(cached.len());
        let found = cached.get(from..).unwrap_or_default();
        let length = found.len().min(buffer.len());
        if let (Some(target), Some(found)) = (buffer.get_mut(..length), found.get(..length)) {
            target.copy_from_slice(found);
        }
        Ok(length)
    }

    pub(super) fn write(&mut self, id: NodeId, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = to_usize(offset);
        let present = self.node(id)?.cached_bytes().len();
        let free = self
            .space
            .map_or(usize::MAX, |space| to_usize(space.saturating_sub(self.used_bytes())));
        let fitting = present.saturating_add(free).saturating_sub(offset).min(bytes.len());
        let node = self.use_node(id)?;
        node.write(offset, bytes.get(..fitting).unwrap_or_default());
        if fitting < bytes.len() {
            self.tell(Harm::NoRoom);
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    pub(super) fn sync_data(&mut self, id: NodeId) -> io::Result<()> {
        if self.crash_in_sync.is_some_and(|number| self.syncs.done >= number) {
            self.is_down = true;
            return Err(power_lost());
        }
        let is_failing = self.syncs.is_failing();
        let mut rng = self.rng.fork();
        let node = self.use_node(id)?;
        if is_failing {
            node.fail_sync(&mut rng);
            self.tell(Harm::SyncFailed);
            return Err(sync_failed());
        }
        node.sync();
        Ok(())
    }

    fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(not_found)
    }

    fn use_node(&mut self, id: NodeId) -> io::Result<&mut Node> {
        let node = self.nodes.get_mut(&id).ok_or_else(not_found)?;
        self.uses_after_failed_sync += u64::from(node.is_failed);
        Ok(node)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names
            .cached()
            .values()
            .filter_map(|id| self.nodes.get(id))
            .map(|node| to_u64(node.cached_bytes().len()))
            .sum()
    }

    pub(super) fn image(&self) -> Image {
        self.names
            .stored()
            .iter()
            .filter_map(|(path, id)| {
                let node = self.nodes.get(id)?;
                Some((path.clone(), node.stored_bytes().to_vec()))
            })
            .collect()
    }

    pub(super) fn cached_file(&self, path: &Path) -> Option<Vec<u8>> {
        let node = self.nodes.get(&self.names.find(path)?)?;
        Some(node.cached_bytes().to_vec())
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.names.cached().keys().cloned().collect()
    }

    pub(super) fn store_file(&mut self, path: &Path, bytes: Vec<u8>) {
        if let Some(dir) = path.parent() {
            self.create_dir(dir);
        }
        let id = self.add_node(Node::stored(bytes));
        self.names.store(path, id);
    }

    pub(super) fn flip_bit(&mut self, path: &Path, offset: usize, bit: u8) -> bool {
        let node = self.names.find(path).and_then(|id| self.nodes.get_mut(&id));
        node.is_some_and(|node| node.flip_bit(offset, bit))
    }
}

pub(super) fn power_lost() -> io::Error {
    io::Error::other("simulated: the power is gone")
}

fn sync_failed() -> io::Error {
    io::Error::other("simulated: the sync failed")
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
