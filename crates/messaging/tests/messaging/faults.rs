//! A disk that says no: syncs that fail, space that runs out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alys_stream_messaging::inbox::{InboxConfig, InboxRecord};
use alys_stream_messaging::storage::{LockError, StorageFile, StorageLock};
use alys_stream_messaging::{AppendCause, Inbox, Storage};
use alys_stream_protocol::message::LogId;

use super::damage::{change, find};
use super::*;

/// The real file system, with faults on demand.
#[derive(Debug, Default, Clone)]
struct Faulty {
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// How many syncs of files fail from now on.
    syncs: AtomicU64,
    /// Whether they fail for want of space, as where blocks are allocated late.
    are_full: AtomicBool,
    is_full: AtomicBool,
    /// Files whose sync failed, and whether one was touched afterwards.
    poisoned: std::sync::Mutex<Vec<PathBuf>>,
    touched: AtomicBool,
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    faults: Arc<Faults>,
}

impl Faulty {
    fn wrap(&self, path: &Path, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(FaultyFile { file, path: path.to_path_buf(), faults: Arc::clone(&self.faults) })
    }
}

impl Storage for Faulty {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        FileStorage.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        FileStorage.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(path, FileStorage.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(path, FileStorage.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileStorage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        FileStorage.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FileStorage.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        FileStorage.lock(path)
    }
}

impl FaultyFile {
    fn check_untouched(&self) {
        if self.faults.poisoned.lock().unwrap().contains(&self.path) {
            self.faults.touched.store(true, Ordering::SeqCst);
        }
    }
}

impl StorageFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_untouched();
        if self.faults.is_full.load(Ordering::SeqCst) {
            // Part of it arrives.
            self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check_untouched();
        // Of segments only: who syncs what else, and when, is not what is tested here.
        let is_segment = self.path.to_str().unwrap().contains(".segment");
        let less = |n: u64| n.checked_sub(1).filter(|_| is_segment);
        let fails = self.faults.syncs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if fails.is_ok() {
            self.faults.poisoned.lock().unwrap().push(self.path.clone());
            let is_full = self.faults.are_full.load(Ordering::SeqCst);
            let kind = if is_full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, "injected"));
        }
        self.file.sync_data()
    }
}

#[tokio::test]
async fn after_a_failed_sync_everything_goes_to_a_new_segment() {
    for are_full in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::default();
        storage.faults.are_full.store(are_full, Ordering::SeqCst);
        let (buffer, _) = Buffer::open(dir.path(), small(), Arc::new(storage.clone())).unwrap();
        for n in 1..=30 {
            if n % 10 == 0 {
                storage.faults.syncs.store(1, Ordering::SeqCst);
            }
            buffer.append(NOW, vec![message(n, 100)]).unwrap();
            buffer.durable(Seq(n)).await.unwrap();
            assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 100)));
        }
        assert_eq!(buffer.log_stat().syncs_failed, 3);
        buffer.close().await;
        drop(buffer);
        assert!(!storage.faults.touched.load(Ordering::SeqCst), "a poisoned file was used again");
        let (buffer, recovered) = open(dir.path(), small());
        assert_eq!((buffer.stat().records(), recovered.gaps.len()), (30, 0));
        for n in 1..=30 {
            assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 100)));
        }
    }
}

/// What a failed sync left behind it does not hide damage, though nothing that was written again
/// counts where it stood first.
#[tokio::test]
async fn damage_just_before_what_was_written_again_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let (buffer, _) = Buffer::open(dir.path(), small(), Arc::new(storage.clone())).unwrap();
    for n in 1..=12 {
        let is_failing = n == 10;
        storage.faults.syncs.store(u64::from(is_failing), Ordering::SeqCst);
        buffer.append_one(NOW, message(n, 200)).unwrap();
        buffer.durable(Seq(n)).await.unwrap();
    }
    buffer.close().await;
    drop(buffer);
    let (path, at) = find(dir.path(), 9);
    assert_eq!(path, find(dir.path(), 10).0, "it is still there");
    change(&path, |bytes| bytes[at + 100] ^= 0x10);
    let (buffer, recovered) = open(dir.path(), small());
    let [gap] = &recovered.gaps[..] else { panic!("{:?}", recovered.gaps) };
    assert_eq!((gap.seqs.clone(), gap.offset as usize), (Some(Seq(9)..=Seq(9)), at - 44 - 32));
    assert!(gap.bytes > 200, "what is damaged is copied aside");
    assert_eq!(buffer.stat().records(), 11);
}

#[tokio::test]
async fn when_the_new_segment_fails_too_waiters_are_told_and_nothing_more_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let (buffer, _) = Buffer::open(dir.path(), small(), Arc::new(storage.clone())).unwrap();
    buffer.append_one(NOW, message(1, 100)).unwrap();
    buffer.durable(Seq(1)).await.unwrap();
    storage.faults.syncs.store(u64::MAX, Ordering::SeqCst);
    buffer.append_one(NOW, message(2, 100)).unwrap();
    let error = buffer.durable(Seq(2)).await.unwrap_err();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    let refused = buffer.append_one(NOW, message(3, 100)).unwrap_err();
    assert_eq!(refused.cause, AppendCause::Poisoned);
    assert_eq!(buffer.read(Seq(2)).unwrap(), None, "never durable, never sent");
    assert_eq!(buffer.next_durable().await.map(|fresh| fresh.len()), Some(1));
    assert_eq!(buffer.next_durable().await, None);
    storage.faults.syncs.store(0, Ordering::SeqCst);
    drop(buffer);
    let (buffer, _) = open(dir.path(), small());
    assert_eq!(buffer.read(Seq(1)).unwrap(), Some(message(1, 100)));
}

#[tokio::test]
async fn a_cursor_of_the_inbox_never_names_what_is_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let config = InboxConfig { segment_bytes: 12 * 1024, ..InboxConfig::default() };
    let (inbox, _) = Inbox::open(dir.path(), config, Arc::new(storage.clone())).unwrap();
    let sender = LogId::new([1; 16]);
    let receive = |n| {
        let record = InboxRecord { seq: Seq(n), message: message(n, 100) };
        inbox.receive(sender, vec![record]).position
    };
    inbox.durable(receive(1)).await.unwrap();
    assert_eq!(inbox.cursor(sender).received, seqs([1]));
    storage.faults.syncs.store(u64::MAX, Ordering::SeqCst);
    inbox.durable(receive(2)).await.unwrap_err();
    inbox.ended().await;
    assert!(inbox.has(sender, Seq(2)));
    assert_eq!(inbox.cursor(sender).received, seqs([1]));
    assert_eq!(inbox.cursors()[0].1.received, seqs([1]));
}

#[tokio::test]
async fn a_full_disk_is_backpressure_and_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let (buffer, _) = Buffer::open(dir.path(), small(), Arc::new(storage.clone())).unwrap();
    storage.faults.is_full.store(true, Ordering::SeqCst);
    buffer.append_one(NOW, message(1, 100)).unwrap();
    let full = loop {
        match buffer.append_one(NOW, message(2, 100)) {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(full.cause, AppendCause::DiskFull);
    assert!(full.cause.is_backpressure());
    storage.faults.is_full.store(false, Ordering::SeqCst);
    buffer.durable(Seq(1)).await.unwrap();
    let accepted = loop {
        match buffer.append_one(NOW, message(3, 100)) {
            Ok(accepted) => break accepted,
            Err(error) => assert_eq!(error.cause, AppendCause::DiskFull),
        }
        tokio::task::yield_now().await;
    };
    buffer.durable(accepted.seq).await.unwrap();
}
