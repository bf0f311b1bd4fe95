//! The names of files: which a process sees, which are stored, and the changes between the two.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Identifies a file whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) u64);

#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    cached: BTreeMap<PathBuf, NodeId>,
    stored: BTreeMap<PathBuf, NodeId>,
    /// In the order in which they were made.
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Put { path: PathBuf, node: NodeId },
    Move { from: PathBuf, to: PathBuf, node: NodeId },
    Remove { path: PathBuf },
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Put { path, .. } | Self::Move { to: path, .. } | Self::Remove { path } => {
                path.parent()
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, NodeId>) {
        match self {
            Self::Put { path, node } => {
                names.insert(path.clone(), *node);
            }
            Self::Move { from, to, node } => {
                // When an earlier change of this name was not stored, the old name is another's.
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> Option<NodeId> {
        self.cached.get(path).copied()
    }

    pub(super) fn cached(&self) -> &BTreeMap<PathBuf, NodeId> {
        &self.cached
    }

    pub(super) fn stored(&self) -> &BTreeMap<PathBuf, NodeId> {
        &self.stored
    }

    pub(super) fn put(&mut self, path: &Path, node: NodeId) {
        self.change(Change::Put { path: path.to_path_buf(), node });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, node: NodeId) {
        self.change(Change::Move { from: from.to_path_buf(), to: to.to_path_buf(), node });
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(Change::Remove { path: path.to_path_buf() });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.unsynced.push(change);
    }

    /// Puts a name there that is stored at once.
    pub(super) fn store(&mut self, path: &Path, node: NodeId) {
        self.cached.insert(path.to_path_buf(), node);
        self.stored.insert(path.to_path_buf(), node);
    }

    pub(super) fn sync(&mut self, dir: &Path) {
        let stored = &mut self.stored;
        self.unsynced.retain(|change| {
            let is_here = change.dir() == Some(dir);
            if is_here {
                change.apply(stored);
            }
            !is_here
        });
    }

    pub(super) fn lose(&mut self) {
        self.unsynced.clear();
        self.cached.clone_from(&self.stored);
    }

    /// Stores the first few changes, as a journal does, or any of them (K2).
    pub(super) fn lose_in_part(&mut self, rng: &mut Rng) {
        let is_journal = rng.bool();
        let kept = rng.usize(..=self.unsynced.len());
        for (index, change) in self.unsynced.iter().enumerate() {
            let is_kept = if is_journal { index < kept } else { rng.bool() };
            if is_kept {
                change.apply(&mut self.stored);
            }
        }
        self.lose();
    }
}
