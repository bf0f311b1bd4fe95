//! What goes into the outbox and what comes out of it; budgets have a module of their own.

use std::time::Duration;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use crate::record::RecordMeta;
use crate::refusals::History;
use crate::router::Route;

/// Names an endpoint within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// Most endpoints at one time: what is known of a message per endpoint are bits of one word.
pub const ENDPOINTS_MAX: usize = 64;

/// Longest text of a refusal that is kept, in bytes.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;

/// What a peer says when it does not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not now.
    Retry {
        /// Not before this has passed.
        after: Option<Duration>,
    },
    /// Never.
    Terminal,
    /// It has it and is not done: neither an acknowledgement nor a refusal.
    InProgress,
}

/// The code where no peer gave one: this node says so itself.
pub const OWN_REFUSAL: u32 = 0;

/// One attempt that came to nothing: a refusal, or no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The name of who was asked: ids of endpoints do not outlive a process.
    pub endpoint: String,
    /// When it came to nothing.
    pub at: UnixMillis,
    /// The code the peer gave; [`OWN_REFUSAL`] when it said nothing, and this node gave up.
    pub code: u32,
    /// What it said, at most [`REFUSAL_TEXT_BYTES_MAX`] bytes, or why it was given up.
    pub text: String,
}

/// Counts refusals: once what [`Action::Remember`] asks for is durable, its ticket goes to
/// [`crate::Outbox::handle_remembered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RefusalTicket(pub(super) u64);

/// Why a message died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its deadline passed before it was sent.
    Expired,
    /// Its deadline passed after it was sent.
    TimedOut {
        /// A peer may have acted on it.
        may_have_been_seen: bool,
    },
    /// It was refused for good.
    Refused {
        /// The code of the last refusal.
        code: u32,
        /// What the peer said.
        text: String,
    },
    /// It was of low priority and made room for others. A peer may have acted on it.
    Evicted,
}

impl Cause {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused { .. } => "refused",
            Self::Evicted => "evicted",
        }
    }
}

/// What the driver has to do. Once the end of a message is durable,
/// [`crate::Outbox::handle_ends_durable`] is told: later ones of its key wait for that, unless they
/// go where it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The policies of messages are met: settle them in the buffer.
    Settle {
        /// Which ones.
        seqs: SeqSet,
    },
    /// A message died: make its dead letter durable, then settle it in the buffer.
    Dead {
        /// Which one.
        seq: Seq,
        /// Why.
        cause: Cause,
        /// Every refusal, in order; empty for a message that was not in memory when it died: what
        /// was remembered of it then says more.
        attempts: Vec<Attempt>,
        /// Who was sent it and did not answer, in order, as far as this process knows.
        unanswered: Vec<Attempt>,
    },
    /// A message cannot be read back: report a gap, then settle it in the buffer.
    Lost {
        /// Which one.
        seq: Seq,
    },
    /// A connected endpoint has something new to send.
    Ready(EndpointId),
    /// Look up what is known of messages. Every one of them is answered, in any order and in any
    /// number of calls: with [`crate::Outbox::handle_loaded`], or, when it cannot be read, with
    /// [`crate::Outbox::handle_unreadable`], or, when the buffer does not hold it any more, with
    /// [`crate::Outbox::handle_forgotten`].
    Load {
        /// Which ones, ascending, at most [`LOAD_SEQS_MAX`].
        seqs: Vec<Seq>,
    },
    /// A message was refused: make this durable in place of what was known before, then tell
    /// [`crate::Outbox::handle_remembered`]. Later ones of its key may wait for that, nothing else
    /// does. It is found from now on by whoever answers [`Action::Load`].
    Remember {
        /// Which one.
        seq: Seq,
        /// Every refusal of it.
        history: History,
        /// For [`crate::Outbox::handle_remembered`].
        ticket: RefusalTicket,
    },
}

/// Most messages of one [`Action::Load`].
pub const LOAD_SEQS_MAX: usize = 1024;

/// What is known of a message that [`Action::Load`] asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub meta: RecordMeta,
    /// How it is treated.
    pub route: Route,
    /// Who refused it so far.
    pub history: History,
}

/// More endpoints than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an outbox has at most {ENDPOINTS_MAX} endpoints: remove one first")]
pub struct TooManyEndpoints;
