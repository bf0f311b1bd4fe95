//! The bugs that are planted in what the product has of its disk: each does something wrong with the
//! files themselves, so that what is wrong can be seen below it and above it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_messaging::storage::{LockError, Storage, StorageFile, StorageLock};
use alys_stream_testkit::segment;

use super::watch::Watched;
use crate::net::Machine;
use crate::planted::Planted;

/// Bytes behind a damaged entry that the bug `LoseNeighbours` takes with it.
const NEIGHBOURS_BYTES: usize = 4096;

/// The file system of one life of a machine, with a bug.
#[derive(Debug)]
pub(super) struct Spoilt {
    inner: Arc<Watched>,
    bug: Planted,
    is_node: bool,
    life: u64,
}

impl Spoilt {
    pub(super) fn new(inner: Arc<Watched>, bug: Planted, who: Machine, life: u64) -> Self {
        Self { inner, bug, is_node: who.identity().is_some(), life }
    }

    /// Where a file really is: of what a bug forgets every life has its own.
    fn place(&self, path: &Path) -> PathBuf {
        let forgotten = match (self.bug, self.is_node) {
            (Planted::ForgetLog, false) => "inbox",
            (Planted::ForgetPushes, false) => "outbox",
            (Planted::ForgetLetters, true) => "dead_letters",
            _ => return path.to_path_buf(),
        };
        let parts = path.components().flat_map(|part| {
            let life = (part.as_os_str() == forgotten).then(|| format!("life-{}", self.life));
            life.map(PathBuf::from).into_iter().chain([PathBuf::from(part.as_os_str())])
        });
        parts.collect()
    }

    fn is_buffer(&self, path: &Path) -> bool {
        self.is_node && path.parent().is_some_and(|dir| dir.ends_with("buffer"))
    }

    fn syncs(&self, path: &Path) -> Syncs {
        let is_inbox = path.parent().is_some_and(|dir| dir.ends_with("inbox"));
        let is_never = (self.bug == Planted::AckBeforeFsync && self.is_buffer(path))
            || (self.bug == Planted::SettleUnstored && !self.is_node && is_inbox);
        match is_never {
            true => Syncs::Never,
            false if self.bug == Planted::RetryFsync => Syncs::Again,
            false => Syncs::Honest,
        }
    }

    fn file(&self, path: &Path, inner: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        let is_full_broken = self.bug == Planted::FullIsBroken;
        Arc::new(SpoiltFile { inner, syncs: self.syncs(path), is_full_broken })
    }

    /// Finds a damaged stretch of a segment, and makes it worse.
    fn spoil(&self, file: &dyn StorageFile) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let Some((start, end)) = damaged(&bytes) else { return Ok(()) };
        if self.bug == Planted::LoseNeighbours {
            if end - start >= NEIGHBOURS_BYTES {
                return Ok(());
            }
            let end = bytes.len().min(end + NEIGHBOURS_BYTES);
            return write(file, start, &vec![0xff; end - start]);
        }
        if let Some(entry) = bytes.get(start..end).and_then(settlement) {
            bytes.splice(start..end, entry);
            segment::seal(&mut bytes);
            write(file, start, bytes.get(start..end).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The first stretch of a segment that does not verify and has something behind it that does.
fn damaged(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = segment::HEADER_BYTES;
    for entry in segment::entries(bytes) {
        if entry.offset != at {
            return Some((at, entry.offset));
        }
        at += entry.bytes;
    }
    None
}

/// An entry in place of a damaged record that says that this one is settled.
fn settlement(damaged: &[u8]) -> Option<Vec<u8>> {
    let (header, _) = damaged.split_first_chunk::<32>()?;
    if header[2] != segment::KIND_RECORD {
        return None;
    }
    let payload = u32::try_from(damaged.len() - header.len()).ok()?;
    let mut entry = vec![0; damaged.len()];
    entry.get_mut(..24)?.copy_from_slice(header.get(..24)?);
    *entry.get_mut(2)? = segment::KIND_SETTLED;
    entry.get_mut(4..8)?.copy_from_slice(&payload.to_le_bytes());
    // Of a settlement this is zero.
    entry.get_mut(16..24)?.fill(0);
    *entry.get_mut(32)? = 1;
    entry.get_mut(36..44)?.copy_from_slice(header.get(16..24)?);
    entry.get_mut(44..52)?.copy_from_slice(header.get(16..24)?);
    Some(entry)
}

fn write(file: &dyn StorageFile, at: usize, bytes: &[u8]) -> io::Result<()> {
    file.write_at(bytes, u64::try_from(at).unwrap_or(u64::MAX))?;
    file.sync_data()
}

impl Storage for Spoilt {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(&self.place(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.inner.list(&self.place(dir))?;
        let is_hiding = self.bug == Planted::ForgetToReplay && self.is_node && self.life > 1;
        if is_hiding && dir.ends_with("buffer") {
            let is_segment = |name: &String| name.ends_with(".segment");
            if names.iter().filter(|name| is_segment(name)).count() > 1
                && let Some(oldest) = names.iter().position(is_segment)
            {
                names.remove(oldest);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(path, self.inner.create(&self.place(path))?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let inner = self.inner.open(&self.place(path))?;
        let is_segment = path.extension().is_some_and(|extension| extension == "segment");
        if matches!(self.bug, Planted::SkipGap | Planted::LoseNeighbours)
            && is_segment
            && self.is_buffer(path)
        {
            self.spoil(&*inner)?;
        }
        Ok(self.file(path, inner))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(&self.place(from), &self.place(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(&self.place(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(&self.place(dir))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        self.inner.lock(&self.place(path))
    }
}

#[derive(Debug, Clone, Copy)]
enum Syncs {
    Honest,
    Never,
    Again,
}

/// A file; its syncs may not be what they should be.
#[derive(Debug)]
struct SpoiltFile {
    inner: Arc<dyn StorageFile>,
    syncs: Syncs,
    is_full_broken: bool,
}

impl StorageFile for SpoiltFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset).map_err(|error| match self.is_full_broken {
            true => io::Error::other(error),
            false => error,
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.syncs {
            Syncs::Honest => self.inner.sync_data(),
            Syncs::Never => Ok(()),
            Syncs::Again => self.inner.sync_data().or_else(|_| self.inner.sync_data()),
        }
    }
}
