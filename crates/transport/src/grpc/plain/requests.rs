//! Requests handed to a plain stream ahead of the wire: few, and few bytes, so that what is urgent
//! is not behind what was chosen earlier.
//!
//! This wire cannot split a message: one that is long goes alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alys_stream_protocol::limits;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Requests handed over ahead of the wire.
const REQUESTS_OUT_MAX: usize = 16;

/// Nothing is chosen while so many bytes wait: one batch.
const QUEUED_BYTES_MAX: usize = limits::BATCH_BYTES_MAX;

#[derive(Debug, Default)]
struct Queued {
    bytes: AtomicUsize,
    taken: Notify,
}

/// The sending side.
#[derive(Debug)]
pub(super) struct Requests {
    sender: mpsc::Sender<Bytes>,
    queued: Arc<Queued>,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Nobody takes requests any more.
    Closed,
    /// A broken invariant of ours.
    Full,
}

/// Both ends of the requests of one stream.
pub(super) fn requests() -> (Requests, impl Stream<Item = Bytes> + Send + 'static) {
    let (sender, outgoing) = mpsc::channel::<Bytes>(REQUESTS_OUT_MAX);
    let queued = Arc::new(Queued::default());
    let requests = Requests { sender, queued: Arc::clone(&queued) };
    let outgoing = ReceiverStream::new(outgoing).inspect(move |taken| {
        queued.bytes.fetch_sub(taken.len(), Ordering::Relaxed);
        queued.taken.notify_one();
    });
    (requests, outgoing)
}

impl Requests {
    /// Hands a request over.
    pub(super) fn push(&self, encoded: Bytes) -> Result<(), NotTaken> {
        let bytes = encoded.len();
        self.queued.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sender.try_send(encoded).map_err(|refused| {
            self.queued.bytes.fetch_sub(bytes, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Closed(_) => NotTaken::Closed,
                mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            }
        })
    }

    /// How many more fit.
    pub(super) fn room(&self) -> usize {
        self.sender.capacity()
    }

    /// Resolves when one more request may be chosen: `false` when nobody takes requests any more.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: it holds no room.
    pub(super) async fn ready(&self) -> bool {
        while self.queued.bytes.load(Ordering::Relaxed) >= QUEUED_BYTES_MAX {
            tokio::select! {
                biased;
                () = self.queued.taken.notified() => {}
                () = self.sender.closed() => return false,
            }
        }
        self.sender.reserve().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn nothing_is_chosen_while_a_batch_waits() {
        let (requests, outgoing) = requests();
        let mut outgoing = std::pin::pin!(outgoing);
        requests.push(Bytes::from(vec![0; QUEUED_BYTES_MAX - 1])).unwrap();
        assert_eq!(requests.ready().now_or_never(), Some(true));
        requests.push(Bytes::from(vec![0; 4_000_000])).unwrap();
        assert_eq!(requests.ready().now_or_never(), None, "a long one waits already");
        outgoing.next().await.unwrap();
        assert_eq!(requests.ready().now_or_never(), None);
        outgoing.next().await.unwrap();
        assert_eq!(requests.ready().now_or_never(), Some(true));
    }

    #[tokio::test]
    async fn an_end_is_seen_whether_there_is_room_or_not() {
        let (few, outgoing) = requests();
        drop(outgoing);
        assert!(!few.ready().await);
        assert_eq!(few.push(Bytes::new()), Err(NotTaken::Closed));
        let (many, outgoing) = requests();
        many.push(Bytes::from(vec![0; QUEUED_BYTES_MAX])).unwrap();
        drop(outgoing);
        assert!(!many.ready().await);
        let (full, _outgoing) = requests();
        for _ in 0..REQUESTS_OUT_MAX {
            full.push(Bytes::new()).unwrap();
        }
        assert_eq!((full.room(), full.push(Bytes::new())), (0, Err(NotTaken::Full)));
    }
}
