//! The thread that keeps slow file work off the writer: it prepares the next segment ahead of use,
//! removes or recycles retired ones, and makes the reserve.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::format::Mark;
use super::reserve::{self, Reserve};
use super::shared::Shared;
use super::{Chored, LogClient, NextChore, OpenError, SegmentId, files};
use crate::storage::{StorageFile, is_storage_full};

/// How long to wait before what could not be prepared is tried again, at first and at most: every
/// attempt fills what space there is.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(500);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(4);

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
    /// A mark to be written.
    pub(super) mark: Option<Mark>,
    /// Whether the layer above has work for this thread.
    pub(super) is_chore_wanted: bool,
    pub(super) reserve: Reserve,
    /// A segment for nothing but a summary.
    pub(super) emergency: Option<Arc<dyn StorageFile>>,
    /// Whether a whole segment was ever needed: before that there is no reserve.
    pub(super) is_grown: bool,
    pub(super) is_closing: bool,
}

impl Housekeeping {
    const fn is_reserve_wanted(&self) -> bool {
        match self.reserve {
            Reserve::Unmade => self.is_grown,
            Reserve::InPlace => false,
            Reserve::Missing => true,
        }
    }
}

enum Job {
    Prepare,
    Retire(SegmentId),
    Mark(Mark),
    /// The emergency segment.
    Emergency,
    /// Of the layer above.
    Chore,
    Reserve {
        is_missing: bool,
    },
}

pub(super) fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    client: Arc<dyn LogClient>,
) -> Result<JoinHandle<()>, OpenError> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name(format!("{name}-files"))
        .spawn(move || run(&shared, &*client))
        .map_err(OpenError::Thread)
}

fn run(shared: &Shared, client: &dyn LogClient) {
    let mut retry_after = RETRY_AFTER_MIN;
    // Whether a chore did not work: it is tried again after whatever is done next, or after a time.
    let mut is_chore_due = false;
    while let Some(job) = next_job(shared, is_chore_due.then_some(retry_after)) {
        let done = match job {
            Job::Prepare => prepare(shared),
            Job::Retire(segment) => retire(shared, segment),
            Job::Mark(mark) => {
                shared.write_mark(mark);
                continue;
            }
            Job::Emergency => prepare_emergency(shared),
            Job::Chore => {
                is_chore_due = !chore(shared, client);
                if is_chore_due {
                    retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
                }
                continue;
            }
            // What was given up just now is for the writer; and there may be better to do meanwhile.
            Job::Reserve { is_missing: true } if pause(shared, retry_after) => continue,
            Job::Reserve { .. } => make_reserve(shared),
        };
        shared.housekeeping().is_chore_wanted |= std::mem::take(&mut is_chore_due);
        let Err(error) = done else {
            retry_after = RETRY_AFTER_MIN;
            continue;
        };
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        if is_storage_full(&error) {
            shared.set_disk_full(true);
        }
        tracing::warn!(dir = %shared.dir.display(), %error, "segment files cannot be prepared");
        pause(shared, retry_after);
        retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
    }
}

/// Does some work of the layer above; `false` when it did not work.
fn chore(shared: &Shared, client: &dyn LogClient) -> bool {
    let Chored { retired, next } = client.chore(&shared.dir, &*shared.storage);
    if !retired.is_empty() {
        shared.handoff.retire(&retired);
    }
    match next {
        NextChore::Nothing => true,
        NextChore::More => {
            shared.housekeeping().is_chore_wanted = true;
            true
        }
        NextChore::Retry(error) => {
            tracing::warn!(dir = %shared.dir.display(), %error, "a file beside the log cannot be written");
            false
        }
    }
}

/// Waits; `true` when it was woken before the time was over.
fn pause(shared: &Shared, time: Duration) -> bool {
    let housekeeping = shared.housekeeping();
    if housekeeping.is_closing || !housekeeping.retired.is_empty() {
        return true;
    }
    let (housekeeping, timeout) = shared
        .wake_housekeeper
        .wait_timeout(housekeeping, time)
        .unwrap_or_else(PoisonError::into_inner);
    drop(housekeeping);
    !timeout.timed_out()
}

/// Waits for something to do; for no longer than `chore_after`, then that is a chore.
fn next_job(shared: &Shared, chore_after: Option<Duration>) -> Option<Job> {
    let mut housekeeping = shared.housekeeping();
    loop {
        if housekeeping.is_closing {
            return None;
        }
        // First what gives space back.
        if let Some(segment) = housekeeping.retired.pop_front() {
            return Some(Job::Retire(segment));
        }
        if let Some(mark) = housekeeping.mark.take() {
            return Some(Job::Mark(mark));
        }
        // It may be what segments wait for that could go.
        if std::mem::take(&mut housekeeping.is_chore_wanted) {
            return Some(Job::Chore);
        }
        if shared.config.reserve_bytes > 0 && housekeeping.emergency.is_none() {
            return Some(Job::Emergency);
        }
        if housekeeping.is_spare_wanted && housekeeping.spare.is_none() {
            return Some(Job::Prepare);
        }
        if shared.config.reserve_bytes > 0 && housekeeping.is_reserve_wanted() {
            return Some(Job::Reserve { is_missing: housekeeping.reserve == Reserve::Missing });
        }
        let wake = &shared.wake_housekeeper;
        let Some(time) = chore_after else {
            housekeeping = wake.wait(housekeeping).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let (woken, timeout) =
            wake.wait_timeout(housekeeping, time).unwrap_or_else(PoisonError::into_inner);
        housekeeping = woken;
        housekeeping.is_chore_wanted |= timeout.timed_out();
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
    housekeeping.is_grown = true;
    drop(housekeeping);
    space_found(shared);
}

/// There is some space; enough only when nothing is missing that is to be held back.
fn space_found(shared: &Shared) {
    let housekeeping = shared.housekeeping();
    if housekeeping.reserve != Reserve::Missing {
        shared.set_disk_full(false);
    }
}

fn prepare_emergency(shared: &Shared) -> io::Result<()> {
    let path = reserve::emergency_path(&shared.dir);
    let bytes = reserve::emergency_bytes(shared.config.reserve_bytes);
    let is_cancelled = || shared.housekeeping().is_closing;
    let file = files::create_zeroed(&*shared.storage, &path, bytes, &is_cancelled)?;
    let mut housekeeping = shared.housekeeping();
    housekeeping.emergency = Some(file);
    let is_spare_missing = housekeeping.is_spare_wanted && housekeeping.spare.is_none();
    drop(housekeeping);
    if !is_spare_missing {
        space_found(shared);
    }
    Ok(())
}

fn make_reserve(shared: &Shared) -> io::Result<()> {
    let path = reserve::path(&shared.dir);
    let bytes = shared.config.reserve_bytes;
    let is_cancelled = || {
        let housekeeping = shared.housekeeping();
        housekeeping.is_closing
    };
    let made = files::create_zeroed(&*shared.storage, &path, bytes, &is_cancelled);
    let mut housekeeping = shared.housekeeping();
    match made {
        Ok(_) => {
            housekeeping.reserve = Reserve::InPlace;
            let is_spare_missing = housekeeping.is_spare_wanted && housekeeping.spare.is_none();
            drop(housekeeping);
            if !is_spare_missing {
                shared.set_disk_full(false);
            }
            tracing::debug!(dir = %shared.dir.display(), bytes, "space is held back for a full disk");
            Ok(())
        }
        Err(error) => {
            if is_storage_full(&error) {
                housekeeping.reserve = Reserve::Missing;
            }
            Err(error)
        }
    }
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
    files::remove_if_present(&*shared.storage, &path)?;
    shared.storage.sync_dir(&shared.dir)?;
    space_found(shared);
    Ok(())
}
