//! How one worker of a log is woken, whether it is a thread or a task.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Wakes one worker. A task that is not waiting finds the call later; a thread waits under the lock
/// of what it waits for.
#[derive(Debug, Default)]
pub(super) struct Bell {
    thread: Condvar,
    task: Notify,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.thread.notify_one();
        self.task.notify_one();
    }

    /// Blocks until it rings.
    pub(super) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.thread.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until it rings, at most for `time`; `true` when the time was over.
    pub(super) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, timeout) =
            self.thread.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner);
        (guard, timeout.timed_out())
    }

    /// Waits until it rings, at most for `time` if there is one; `true` when the time was over.
    pub(super) async fn rung(&self, time: Option<Duration>) -> bool {
        let Some(time) = time else {
            self.task.notified().await;
            return false;
        };
        tokio::time::timeout(time, self.task.notified()).await.is_err()
    }
}
