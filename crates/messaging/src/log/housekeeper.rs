//! The thread that keeps slow file work off the writer: it prepares the next segment ahead of use,
//! removes or recycles retired ones, and makes the reserve.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::format::Mark;
use super::reserve::{self, Reserve};
use super::shared::Shared;
use super::{Chored, LogClient, NextChore, OpenError, SegmentId, files};
use crate::storage::{StorageFile, Worker, Workers, is_storage_full};

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
) -> Result<Worker, OpenError> {
    let shared = Arc::clone(shared);
    let workers = shared.workers.clone();
    let body = async move { run(&shared, &*client).await };
    Worker::spawn(&workers, format!("{name}-files"), body).map_err(OpenError::Thread)
}

async fn run(shared: &Shared, client: &dyn LogClient) {
    let mut retry_after = RETRY_AFTER_MIN;
    // Whether a chore did not work: it is tried again after whatever is done next, or after a time.
    let mut is_chore_due = false;
    while let Some(job) = next_job(shared, is_chore_due.then_some(retry_after)).await {
        shared.workers.pass().await;
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
            Job::Reserve { is_missing: true } if pause(shared, retry_after).await => continue,
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
        pause(shared, retry_after).await;
        retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
    }
}

/// Does some work of the layer above; `false` when it did not work.
fn chore(shared: &Shared, client: &dyn LogClient) -> bool {
    let Chored { retired, next } = client.chore(&shared.dir, &*shared.storage);
    if !retired.is_empty() {
        shared.retire(&retired);
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
async fn pause(shared: &Shared, time: Duration) -> bool {
    let is_wanted =
        |housekeeping: &Housekeeping| housekeeping.is_closing || !housekeeping.retired.is_empty();
    match shared.workers {
        Workers::Threads => {
            let housekeeping = shared.housekeeping();
            if is_wanted(&housekeeping) {
                return true;
            }
            !shared.wake_housekeeper.wait_timeout(housekeeping, time).1
        }
        Workers::Tasks(_) => {
            let is_wanted = is_wanted(&shared.housekeeping());
            is_wanted || !shared.wake_housekeeper.rung(Some(time)).await
        }
    }
}

/// Waits for something to do; for no longer than `chore_after`, then that is a chore. `None` when
/// the log closes.
async fn next_job(shared: &Shared, chore_after: Option<Duration>) -> Option<Job> {
    let bell = &shared.wake_housekeeper;
    match shared.workers {
        Workers::Threads => {
            let mut housekeeping = shared.housekeeping();
            loop {
                if let Some(found) = look_for_job(&mut housekeeping, shared.config.reserve_bytes) {
                    return found.job();
                }
                let Some(time) = chore_after else {
                    housekeeping = bell.wait(housekeeping);
                    continue;
                };
                let is_over;
                (housekeeping, is_over) = bell.wait_timeout(housekeeping, time);
                housekeeping.is_chore_wanted |= is_over;
            }
        }
        Workers::Tasks(_) => loop {
            let found = look_for_job(&mut shared.housekeeping(), shared.config.reserve_bytes);
            if let Some(found) = found {
                return found.job();
            }
            let is_over = bell.rung(chore_after).await;
            shared.housekeeping().is_chore_wanted |= is_over;
        },
    }
}

enum Found {
    Job(Job),
    Closing,
}

impl Found {
    fn job(self) -> Option<Job> {
        match self {
            Self::Job(job) => Some(job),
            Self::Closing => None,
        }
    }
}

/// What is to be done, if there is anything.
fn look_for_job(housekeeping: &mut Housekeeping, reserve_bytes: u64) -> Option<Found> {
    if housekeeping.is_closing {
        return Some(Found::Closing);
    }
    // First what gives space back.
    if let Some(segment) = housekeeping.retired.pop_front() {
        return Some(Found::Job(Job::Retire(segment)));
    }
    if let Some(mark) = housekeeping.mark.take() {
        return Some(Found::Job(Job::Mark(mark)));
    }
    // It may be what segments wait for that could go.
    if std::mem::take(&mut housekeeping.is_chore_wanted) {
        return Some(Found::Job(Job::Chore));
    }
    if reserve_bytes > 0 && housekeeping.emergency.is_none() {
        return Some(Found::Job(Job::Emergency));
    }
    if housekeeping.is_spare_wanted && housekeeping.spare.is_none() {
        return Some(Found::Job(Job::Prepare));
    }
    if reserve_bytes > 0 && housekeeping.is_reserve_wanted() {
        let is_missing = housekeeping.reserve == Reserve::Missing;
        return Some(Found::Job(Job::Reserve { is_missing }));
    }
    None
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
