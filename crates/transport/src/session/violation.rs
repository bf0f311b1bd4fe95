//! What a peer must not do on a session. Each one closes it, with the reason, and loses nothing.

use alys_stream_protocol::message::{InvalidId, Seq};
use alys_stream_protocol::seq_set::InvalidRange;
use alys_stream_protocol::session::InvalidRecord;

/// The peer broke the rules that both sides agreed to in the handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionViolation {
    /// The handshake starts with another frame.
    #[error("the handshake expects {expected}, the peer sent {found}")]
    UnexpectedHandshake {
        /// The frame that had to come.
        expected: &'static str,
        /// The one that came.
        found: &'static str,
    },
    /// A handshake frame in the middle of a session.
    #[error("{0} belongs to the handshake, which is over")]
    LateHandshake(&'static str),
    /// A frame of a kind that we do not know.
    #[error("a frame of no known kind (a newer peer must not use what was not agreed)")]
    UnknownFrame,
    /// An identifier cannot be read.
    #[error("{field} is unusable: {problem}")]
    Identifier {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: InvalidId,
    },
    /// A text is empty or too long.
    #[error("{field} has {bytes} bytes, allowed are 1 to {bytes_max}")]
    Text {
        /// Which field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// Ranges that are none, or too many.
    #[error("{field}: {problem}")]
    Range {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: InvalidRange,
    },
    /// More ranges than a frame may carry.
    #[error("{field} has {count} ranges, allowed are {count_max}")]
    TooManyRanges {
        /// Which field.
        field: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        count_max: usize,
    },
    /// More ranges, cursors and features than a frame may carry.
    #[error("a frame of more than {count_max} ranges, cursors and features")]
    TooManyItems {
        /// How many it may have.
        count_max: usize,
    },
    /// A record that is not one.
    #[error("record {seq}: {problem}")]
    Record {
        /// Its number, as the peer gave it.
        seq: u64,
        /// What is wrong with it.
        problem: InvalidRecord,
    },
    /// More records in one batch than agreed.
    #[error("a batch of {count} records, allowed are {count_max}")]
    BatchTooLong {
        /// How many it has.
        count: usize,
        /// How many it may have.
        count_max: usize,
    },
    /// A payload larger than agreed.
    #[error("record {seq} has {bytes} payload bytes, agreed are at most {bytes_max}")]
    MessageTooLarge {
        /// Which record.
        seq: Seq,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// Data beyond the credit that was granted.
    #[error("a batch of {messages} messages and {bytes} bytes exceeds the credit granted")]
    CreditExceeded {
        /// Messages in it.
        messages: u32,
        /// Payload bytes in it.
        bytes: u64,
    },
    /// The window is smaller than the largest message: that one could never be sent.
    #[error(
        "a window of {window_bytes} bytes cannot hold the agreed message size of {message_bytes_max}"
    )]
    WindowTooSmall {
        /// Bytes granted.
        window_bytes: u64,
        /// The largest message.
        message_bytes_max: u64,
    },
    /// An acknowledgement or a nack of something that was never sent.
    #[error("{frame} of {seq}, which was never sent (the last one is {last_sent})")]
    NeverSent {
        /// Which frame.
        frame: &'static str,
        /// What it names.
        seq: Seq,
        /// The highest number sent or resumed.
        last_sent: Seq,
    },
    /// An ack id that does not ascend.
    #[error("ack id {found} after {last}: they ascend by one")]
    AckId {
        /// The one before.
        last: u64,
        /// This one.
        found: u64,
    },
    /// An echo of an acknowledgement that was never sent.
    #[error(
        "acks_durable {found} echoes an acknowledgement that was never sent (the last one is {last})"
    )]
    EchoUnknown {
        /// The last one sent.
        last: u64,
        /// The one echoed.
        found: u64,
    },
    /// `settled_below` went backwards or beyond what exists.
    #[error("settled_below {found} after {last}: it never goes back")]
    SettledBack {
        /// The one before.
        last: Seq,
        /// This one.
        found: Seq,
    },
    /// A record that the peer said it would never send again.
    #[error("record {seq} is below settled_below {settled_below}")]
    SettledRecord {
        /// Which record.
        seq: Seq,
        /// Everything below was settled.
        settled_below: Seq,
    },
    /// A transfer out of order, or one that never began.
    #[error("transfer {found} is not under way, and the next one would be {expected}")]
    Transfer {
        /// The number of the next one.
        expected: u64,
        /// This one.
        found: u64,
    },
    /// A part that is empty, or longer than what is missing.
    #[error("a part of {bytes} bytes of transfer {transfer}, of which {left} are missing")]
    PartLength {
        /// Which transfer.
        transfer: u64,
        /// How long the part is.
        bytes: usize,
        /// How much is missing.
        left: usize,
    },
    /// A compressed batch that would be longer than the credit left allows.
    #[error("a compressed batch of {bytes} bytes, of which at most {bytes_max} can be valid")]
    Inflated {
        /// How long it says it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A compressed batch that cannot be read.
    #[error("a compressed batch is unreadable: {0}")]
    Unreadable(String),
    /// Something that was not among the features agreed.
    #[error("{0} was not agreed in the handshake")]
    NotAgreed(&'static str),
    /// A field that is missing or holds a number of no meaning.
    #[error("{field} holds {found}, which means nothing")]
    Meaningless {
        /// Which field.
        field: &'static str,
        /// What it holds.
        found: i64,
    },
}
