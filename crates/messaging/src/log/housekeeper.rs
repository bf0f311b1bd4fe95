//! The thread that keeps slow file work off the writer: it prepares the next segment ahead of use
//! and removes or recycles retired ones.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::shared::Shared;
use super::{OpenError, SegmentId, files};
use crate::storage::{StorageFile, is_storage_full};

/// How long to wait before a segment that could not be prepared is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A file that is ready to be written from its start.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) segment: SegmentId,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    pub(super) is_spare_wanted: bool,
    pub(super) spare: Option<Spare>,
    pub(super) retired: VecDeque<SegmentId>,
    pub(super) is_closing: bool,
}

enum Job {
    Prepare,
    Retire(SegmentId),
}

pub(super) fn spawn(name: &str, shared: &Arc<Shared>) -> Result<JoinHandle<()>, OpenError> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name(format!("{name}-files"))
        .spawn(move || run(&shared))
        .map_err(OpenError::Thread)
}

fn run(shared: &Shared) {
    while let Some(job) = next_job(shared) {
        let done = match job {
            Job::Prepare => prepare(shared),
            Job::Retire(segment) => retire(shared, segment),
        };
        if let Err(error) = done {
            if error.kind() == io::ErrorKind::Interrupted {
                return;
            }
            if is_storage_full(&error) {
                shared.is_disk_full.store(true, Ordering::Release);
            }
            tracing::warn!(dir = %shared.dir.display(), %error, "segment files cannot be prepared");
            let housekeeping = shared.housekeeping();
            if housekeeping.is_closing {
                return;
            }
            drop(
                shared
                    .wake_housekeeper
                    .wait_timeout(housekeeping, RETRY_AFTER)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
}

fn next_job(shared: &Shared) -> Option<Job> {
    let mut housekeeping = shared.housekeeping();
    loop {
        if housekeeping.is_closing {
            return None;
        }
        // First what gives space back.
        if let Some(segment) = housekeeping.retired.pop_front() {
            return Some(Job::Retire(segment));
        }
        if housekeeping.is_spare_wanted && housekeeping.spare.is_none() {
            return Some(Job::Prepare);
        }
        housekeeping =
            shared.wake_housekeeper.wait(housekeeping).unwrap_or_else(PoisonError::into_inner);
    }
}

fn prepare(shared: &Shared) -> io::Result<()> {
    let segment = SegmentId(shared.next_segment.fetch_add(1, Ordering::AcqRel));
    let path = files::segment_path(&shared.dir, segment);
    let bytes = shared.config.segment_bytes;
    let file =
        files::create_zeroed(&*shared.storage, &path, bytes, &|| shared.housekeeping().is_closing)?;
    offer(shared, Spare { segment, file, bytes });
    Ok(())
}

fn offer(shared: &Shared, spare: Spare) {
    let mut housekeeping = shared.housekeeping();
    housekeeping.spare = Some(spare);
    housekeeping.is_spare_wanted = false;
    drop(housekeeping);
    shared.is_disk_full.store(false, Ordering::Release);
}

fn retire(shared: &Shared, segment: SegmentId) -> io::Result<()> {
    let Some(retired) = shared.segments().remove(&segment) else {
        return Ok(());
    };
    let path = files::segment_path(&shared.dir, segment);
    let is_spare_wanted = {
        let housekeeping = shared.housekeeping();
        housekeeping.is_spare_wanted && housekeeping.spare.is_none()
    };
    // Bytes that were written before sync faster than fresh ones, and the salt makes the old
    // entries fail. A poisoned file is never written again (M4).
    if is_spare_wanted && !retired.is_poisoned && retired.bytes == shared.config.segment_bytes {
        let next = SegmentId(shared.next_segment.fetch_add(1, Ordering::AcqRel));
        shared.storage.rename(&path, &files::segment_path(&shared.dir, next))?;
        shared.storage.sync_dir(&shared.dir)?;
        offer(shared, Spare { segment: next, file: retired.file, bytes: retired.bytes });
        return Ok(());
    }
    match shared.storage.remove(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    shared.storage.sync_dir(&shared.dir)?;
    shared.is_disk_full.store(false, Ordering::Release);
    Ok(())
}
