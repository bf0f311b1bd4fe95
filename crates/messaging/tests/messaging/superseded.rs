//! A segment that was begun in part and cannot be removed: what goes on has a higher number.

use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex};

use alys_stream_messaging::Storage;
use alys_stream_messaging::storage::{LockError, StorageFile, StorageLock};

use super::*;

/// Prepared ahead, and ready only after the next one was begun in part.
const PREPARED: &str = "0000000000000002.segment";
/// Needed at once: its beginning is written, an error is returned, and it cannot be removed.
const STUCK: &str = "0000000000000003.segment";
const WENT_ON: &str = "0000000000000004.segment";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begun,
    /// The segment ahead is being prepared, and not finished before the next step.
    Preparing,
    Stuck,
    /// The segment ahead is there for the writer: what is made after it was begun.
    Prepared,
}

#[derive(Debug)]
struct Steps {
    step: Mutex<Step>,
    changed: Condvar,
}

impl Steps {
    fn reach(&self, step: Step) {
        let mut reached = self.step.lock().unwrap();
        *reached = step.max(*reached);
        self.changed.notify_all();
    }

    fn wait_for(&self, step: Step) {
        let reached = self.step.lock().unwrap();
        let patience = Duration::from_secs(20);
        let is_before = |reached: &mut Step| *reached < step;
        let waited = self.changed.wait_timeout_while(reached, patience, is_before);
        assert!(!waited.unwrap().1.timed_out(), "{step:?} was not reached");
    }
}

/// The real file system, on which these two threads meet in this order.
#[derive(Debug, Clone)]
struct Ordered {
    steps: Arc<Steps>,
}

#[derive(Debug)]
struct StuckFile(Arc<dyn StorageFile>);

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name().unwrap().to_str().unwrap().trim_end_matches(".tmp") == name
}

impl Storage for Ordered {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        FileStorage.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        FileStorage.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        if is_named(path, PREPARED) {
            self.steps.reach(Step::Preparing);
            self.steps.wait_for(Step::Stuck);
        } else if is_named(path, "reserve") {
            self.steps.reach(Step::Prepared);
        }
        let file = FileStorage.create(path)?;
        Ok(if is_named(path, STUCK) { Arc::new(StuckFile(file)) } else { file })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        FileStorage.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileStorage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.ends_with(STUCK) {
            self.steps.reach(Step::Stuck);
            self.steps.wait_for(Step::Prepared);
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        FileStorage.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FileStorage.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        FileStorage.lock(path)
    }
}

impl StorageFile for StuckFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)?;
        // Zeros are taken; the header arrives, and its writer is not told.
        if bytes.starts_with(b"ALYSSEGM") { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// The prepared segment comes behind the one that is written, but before the one that stays: its
/// entries would not count, so it is used under a number behind both.
#[tokio::test]
async fn nothing_goes_on_in_a_segment_before_one_that_was_begun_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let steps = Arc::new(Steps { step: Mutex::new(Step::Begun), changed: Condvar::new() });
    let storage = Ordered { steps: Arc::clone(&steps) };
    let (buffer, _) = Buffer::open(dir.path(), small(), Arc::new(storage)).unwrap();
    let append = async |n| {
        buffer.append_one(NOW, message(n, 1000)).unwrap();
        buffer.durable(Seq(n)).await.unwrap();
    };
    // More than half of a segment, so that the next one is prepared.
    for n in 1..=10 {
        append(n).await;
    }
    steps.wait_for(Step::Preparing);
    // As much as goes into one while none is prepared, and a little of another.
    for n in 11..=30 {
        append(n).await;
    }
    assert_eq!(*steps.step.lock().unwrap(), Step::Prepared, "it was stuck");
    buffer.close().await;
    drop(buffer);
    let is_there = |name| dir.path().join(name).exists();
    let there = [STUCK, WENT_ON, PREPARED].map(is_there);

    let (buffer, recovered) = open(dir.path(), small());
    assert_eq!((buffer.stat().records(), recovered.gaps.len()), (30, 0));
    for n in 1..=30 {
        assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 1000)), "{n}");
    }
    assert_eq!(there, [true, true, false], "the prepared one has another name");
}
