//! The view of one process: the seam of `messaging::storage` over a disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_messaging::Storage;
use alys_stream_messaging::storage::{LockError, StorageFile, StorageLock};

use super::names::NodeId;
use super::state::{Fate, State, power_lost};
use super::{Call, Device, Operation};

#[derive(Debug, Clone)]
pub(super) struct Mount {
    device: Arc<Device>,
    generation: u64,
}

impl Mount {
    pub(super) const fn new(device: Arc<Device>, generation: u64) -> Self {
        Self { device, generation }
    }

    /// Counts the call, lets the hook see it, and does it unless the power fails first.
    fn call<T>(
        &self,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let (fate, number) = {
            let mut state = self.device.state();
            (state.begin_call(self.generation)?, state.calls)
        };
        if let Some(hook) = self.device.hook() {
            hook(&Call { number, operation, path: path.to_path_buf() });
        }
        let mut state = self.device.state();
        match fate {
            Fate::Lives => {
                state.check_alive(self.generation)?;
                act(&mut state)
            }
            Fate::Dies { is_done } => {
                // Whether it worked is known to nobody.
                if is_done && state.generation == self.generation {
                    drop(act(&mut state));
                }
                Err(power_lost())
            }
        }
    }

    fn file(&self, path: &Path, node: NodeId) -> Arc<dyn StorageFile> {
        Arc::new(OpenFile { mount: self.clone(), path: path.to_path_buf(), node })
    }
}

impl Storage for Mount {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.call(Operation::CreateDir, dir, |state| {
            state.create_dir(dir);
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call(Operation::List, dir, |state| state.list(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let node = self.call(Operation::Create, path, |state| state.create(path))?;
        Ok(self.file(path, node))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let node = self.call(Operation::Open, path, |state| state.open(path))?;
        Ok(self.file(path, node))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Operation::Rename, to, |state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::Remove, path, |state| state.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Operation::SyncDir, dir, |state| state.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        let is_taken = self
            .call(Operation::Lock, path, |state| Ok(state.lock(path)))
            .map_err(LockError::Io)?;
        if !is_taken {
            return Err(LockError::Held { pid: None });
        }
        Ok(Box::new(Lock { mount: self.clone(), path: path.to_path_buf() }))
    }
}

#[derive(Debug)]
struct OpenFile {
    mount: Mount,
    /// Its name when it was opened.
    path: PathBuf,
    node: NodeId,
}

impl StorageFile for OpenFile {
    fn size(&self) -> io::Result<u64> {
        self.mount.call(Operation::Size, &self.path, |state| state.size(self.node))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.mount.call(Operation::Read, &self.path, |state| state.read(self.node, buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.mount.call(Operation::Write, &self.path, |state| state.write(self.node, bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.mount.call(Operation::SyncData, &self.path, |state| state.sync_data(self.node))
    }
}

/// Dropping it releases the lock, unless a crash did.
#[derive(Debug)]
struct Lock {
    mount: Mount,
    path: PathBuf,
}

impl StorageLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.mount.device.state();
        state.unlock(&self.path, self.mount.generation);
    }
}
