//! What the buffer answers to whoever wants something kept.

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Message, MessageId, Seq};

use super::ids::IdsUnreadable;
use crate::log::Position;

/// What `append` says about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Which message.
    pub id: MessageId,
    /// Its place in the log; of a duplicate, the place of the first one.
    pub seq: Seq,
    /// Whether a message with this id was there already.
    pub is_duplicate: bool,
    /// Where it is in the log; `None` of a duplicate.
    pub(super) position: Option<Position>,
}

impl Accepted {
    pub(super) const fn again(id: MessageId, seq: Seq) -> Self {
        Self { id, seq, is_duplicate: true, position: None }
    }
}

/// Messages that were not accepted, none of them, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct AppendError {
    /// The messages, in the order given.
    pub messages: Vec<Message>,
    /// Why.
    #[source]
    pub cause: AppendCause,
}

/// Why messages were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendCause {
    /// The quota is used up.
    #[error(
        "the buffer holds {used_bytes} of {quota_bytes} bytes: send again once some is settled"
    )]
    Full {
        /// Bytes of unsettled messages.
        used_bytes: u64,
        /// The quota, as far as messages of this priority may fill it.
        quota_bytes: u64,
    },
    /// The file system has no space.
    #[error("the disk of the buffer is full: free some, and send again")]
    DiskFull,
    /// More waits to be written than may wait.
    #[error("the disk is slower than the senders: send again once earlier messages are durable")]
    Backlog,
    /// A file with ids of earlier messages cannot be read, so nobody can tell whether one of them
    /// is there already (M10).
    #[error(
        "a file with the ids of earlier messages cannot be read: check the disk of the buffer, \
         send again, and restart when that does not help: a restart makes the file anew"
    )]
    IdsUnreadable,
    /// One of them is larger than a message may be.
    #[error("message {index} has {bytes} bytes, the most is {}", limits::MESSAGE_BYTES_MAX)]
    TooLarge {
        /// Which one of those given.
        index: usize,
        /// Bytes of its payload (or of its trace context, when that is too long).
        bytes: usize,
    },
    /// The log failed; it takes nothing more.
    #[error("the buffer cannot be written any more: check the disk and restart")]
    Poisoned,
}

impl From<IdsUnreadable> for AppendCause {
    fn from(_: IdsUnreadable) -> Self {
        Self::IdsUnreadable
    }
}

impl AppendCause {
    /// Whether the same messages may be accepted later.
    #[must_use]
    pub const fn is_backpressure(&self) -> bool {
        match self {
            Self::Full { .. } | Self::DiskFull | Self::Backlog | Self::IdsUnreadable => true,
            Self::TooLarge { .. } | Self::Poisoned => false,
        }
    }
}
