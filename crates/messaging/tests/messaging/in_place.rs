//! A repair in place that is cut short anywhere: nothing is lost, nobody begins an empty buffer, and
//! the next repair finishes it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use alys_stream_messaging::storage::{LockError, StorageFile, StorageLock};
use alys_stream_messaging::tools::{self, ToolError, repair_in_place};
use alys_stream_messaging::{OpenError, Storage};

use super::damage::{change, fill, find};
use super::*;

/// The real file system under a process that is killed: after so many calls that change something, or
/// in the last one of them, it can do nothing more.
#[derive(Debug, Clone)]
struct Dying {
    left: Arc<AtomicU64>,
    is_last_done: bool,
}

impl Dying {
    fn call<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let less = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(1) if self.is_last_done => change().and(Err(io::Error::other("killed"))),
            Ok(0..=1) | Err(_) => Err(io::Error::other("killed")),
            Ok(_) => change(),
        }
    }

    fn file(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(DyingFile { file, storage: self.clone() })
    }
}

#[derive(Debug)]
struct DyingFile {
    file: Arc<dyn StorageFile>,
    storage: Dying,
}

impl Storage for Dying {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.call(|| FileStorage.create_dir_all(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        FileStorage.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.call(|| FileStorage.create(path)).map(|file| self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        FileStorage.open(path).map(|file| self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| FileStorage.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| FileStorage.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(|| FileStorage.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        FileStorage.lock(path)
    }

    fn probe_lock(&self, path: &Path) -> Result<(), LockError> {
        FileStorage.probe_lock(path)
    }
}

impl StorageFile for DyingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.storage.call(|| self.file.write_at(bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.storage.call(|| self.file.sync_data())
    }
}

/// How many messages there were, and which of them is damaged.
const COUNT: u64 = 60;
const HIT: u64 = 20;

/// A damaged buffer to take copies of.
async fn damaged() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), COUNT).await;
    let (path, at) = find(dir.path(), HIT);
    change(&path, |bytes| bytes[at + 100] ^= 0x10);
    dir
}

/// A copy of it, by the name of a buffer.
fn place(damaged: &Path) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("buffer");
    fs::create_dir(&place).unwrap();
    for path in files(damaged, "") {
        fs::copy(&path, place.join(path.file_name().unwrap())).unwrap();
    }
    (root, place)
}

fn beside(place: &Path, suffix: &str) -> PathBuf {
    place.with_file_name(format!("buffer{suffix}"))
}

#[tokio::test]
async fn wherever_it_is_cut_short_nothing_is_lost_and_the_next_one_finishes_it() {
    let damaged = damaged().await;
    let log_id = tools::inspect(damaged.path(), &FileStorage).unwrap().log_id;
    for is_last_done in [false, true] {
        let (mut refused, mut resumed, mut cases) = (0, 0, 0);
        for calls in 1.. {
            let (_root, place) = place(damaged.path());
            let left = Arc::new(AtomicU64::new(calls));
            let result = repair_in_place(&place, &Dying { left, is_last_done });
            let is_over = result.is_ok();
            cases += 1;
            // A node that starts now has the same log or none.
            let mut added = 0;
            match Buffer::open(&place, small(), Arc::new(FileStorage)) {
                Ok((buffer, _)) => {
                    assert_eq!((buffer.log_id(), buffer.stat().records()), (log_id, COUNT - 1));
                    let accepted = buffer.append_one(NOW, message(1000, 10)).unwrap();
                    buffer.durable(accepted.seq).await.unwrap();
                    buffer.close().await;
                    added = 1;
                }
                Err(error) => {
                    assert!(matches!(error, OpenError::Aside { .. }), "{error}");
                    assert!(!place.exists(), "{calls}: nothing is made there");
                    refused += 1;
                }
            }
            if !beside(&place, ".damaged").exists() || !place.exists() {
                let again = repair_in_place(&place, &FileStorage).unwrap();
                assert_eq!(again.repaired.unsettled, COUNT - 1 + added, "{calls}");
                resumed += u64::from(again.is_resumed);
            }
            let kept = tools::inspect(&beside(&place, ".damaged"), &FileStorage).unwrap();
            assert!(!kept.lost.is_empty() || !kept.corruption.is_empty(), "{calls}: as it was");
            assert!(!beside(&place, ".repairing").exists());
            let (buffer, recovered) = open(&place, small());
            assert_eq!((buffer.log_id(), recovered.gaps.len()), (log_id, 0), "{calls}");
            assert_eq!(buffer.stat().records(), COUNT - 1 + added, "{calls}");
            if is_over {
                break;
            }
        }
        assert!(cases > 15, "{cases}");
        assert!(refused > 0 && refused == resumed, "{refused} {resumed}");
    }
}

#[tokio::test]
async fn what_is_not_of_a_repair_is_left_alone_and_said() {
    let damaged = damaged().await;
    // Somebody has it.
    let (_root, place_held) = place(damaged.path());
    let (buffer, _) = open(&place_held, small());
    let error = repair_in_place(&place_held, &FileStorage).unwrap_err();
    assert!(matches!(error, ToolError::Open(OpenError::Locked { .. })), "{error}");
    assert!(!beside(&place_held, ".repairing").exists());
    drop(buffer);
    // An earlier one is kept.
    let (_root, place) = place(damaged.path());
    repair_in_place(&place, &FileStorage).unwrap();
    let error = repair_in_place(&place, &FileStorage).unwrap_err();
    assert!(matches!(error, ToolError::Kept { .. }), "{error}");
    // Nothing is in its place, and no whole copy is there.
    fs::rename(&place, beside(&place, ".repairing")).unwrap();
    fs::remove_file(beside(&place, ".repairing").join("identity")).unwrap();
    let error = repair_in_place(&place, &FileStorage).unwrap_err();
    assert!(matches!(error, ToolError::NoCopy { .. }), "{error}");
    for words in [
        error.to_string(),
        tools::inspect(&place, &FileStorage).unwrap_err().to_string(),
        Buffer::open(&place, small(), Arc::new(FileStorage)).unwrap_err().to_string(),
    ] {
        assert!(words.contains("buffer.damaged"), "{words}");
    }
    // Whoever looked for it left a lock: that is no buffer.
    fs::create_dir(&place).unwrap();
    fs::write(place.join("lock"), "").unwrap();
    let error = Buffer::open(&place, small(), Arc::new(FileStorage)).unwrap_err();
    assert!(matches!(error, OpenError::Aside { .. }), "{error}");
    // As an earlier version called the copy.
    fs::remove_dir_all(beside(&place, ".repairing")).unwrap();
    let to = beside(&place, ".repaired");
    tools::repair(&beside(&place, ".damaged"), &to, &FileStorage).unwrap();
    assert!(repair_in_place(&place, &FileStorage).unwrap().is_resumed);
    assert_eq!(open(&place, small()).0.stat().records(), COUNT - 1);
}
