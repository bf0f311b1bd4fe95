//! What the writer does when there is no space: it gives up the reserve, lets segments go that
//! nothing needs, and waits, in this order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Writer;
use crate::log::housekeeper::Spare;
use crate::log::reserve;
use crate::log::{SegmentId, files};
use crate::storage::{StorageFile, Workers};

/// How long to wait before a write that found no space is tried again.
const SPACE_RETRY_AFTER: Duration = Duration::from_millis(100);

impl Writer {
    /// Waits until it is worth trying again; gives `error` back when the log closes meanwhile.
    pub(super) async fn wait_for_space(&mut self, error: io::Error) -> io::Result<()> {
        if !self.shared.set_disk_full(true) {
            tracing::warn!(dir = %self.shared.dir.display(), "no space left; waiting for some");
        }
        if self.shared.release_reserve() || self.make_way() {
            return Ok(());
        }
        if self.pause().await { Ok(()) } else { Err(error) }
    }

    /// Waits a little, or until there is something to do; `false` when the log closes.
    async fn pause(&self) -> bool {
        let handoff = &self.shared.handoff;
        match self.shared.workers {
            Workers::Threads => handoff.pause(SPACE_RETRY_AFTER),
            Workers::Tasks(_) => {
                if handoff.is_closing() {
                    return false;
                }
                let woken = self.shared.wake_writer_task.notified();
                // Whether it was woken or not, there is something to try now.
                drop(tokio::time::timeout(SPACE_RETRY_AFTER, woken).await);
                true
            }
        }
    }

    /// Begins the emergency segment when there are segments that may go: its summary knows what
    /// the settlements say that are still pending, and once it is durable they are not needed. Where
    /// that does not succeed there is nothing but to wait for space.
    fn make_way(&mut self) -> bool {
        let mut retired = std::mem::take(&mut self.shared.handoff.lock().retire);
        self.retire.append(&mut retired);
        if self.retire.is_empty() {
            return false;
        }
        let Some(file) = self.shared.housekeeping().emergency.take() else {
            return false;
        };
        match self.begin_emergency(file) {
            Ok(()) => {
                self.hand_over_retired();
                true
            }
            Err(error) => {
                // Its summary is too large for it, if nothing else.
                let dir = self.shared.dir.display();
                tracing::warn!(%dir, %error, "the emergency segment could not be begun");
                false
            }
        }
    }

    fn begin_emergency(&mut self, file: Arc<dyn StorageFile>) -> io::Result<()> {
        let segment = SegmentId(self.shared.next_segment.fetch_add(1, Ordering::AcqRel));
        let dir = &self.shared.dir;
        let bytes = file.size()?;
        let storage = &self.shared.storage;
        storage.rename(&reserve::emergency_path(dir), &files::segment_path(dir, segment))?;
        storage.sync_dir(dir).inspect_err(|_| self.discard(segment))?;
        self.begin_segment_in(Spare { segment, file, bytes })?;
        if let Err(error) = self.tail.file.sync_data() {
            // M4: whatever comes goes to yet another one.
            self.poison(&error);
            self.discard(segment);
            self.superseded_by = Some(segment);
            return Err(error);
        }
        self.tail.is_begun = true;
        Ok(())
    }
}
