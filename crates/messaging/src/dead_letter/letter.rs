//! What is kept of a message that died.

use alys_stream_protocol::message::{LogId, Message, Seq};
use alys_stream_protocol::time::UnixMillis;

use crate::outbox::Cause;

/// The place of a dead letter in one store: dense, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId(pub u64);

/// One attempt that came to nothing, with the name of the endpoint: ids of endpoints do not outlive a
/// process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadAttempt {
    /// Who was asked.
    pub endpoint: String,
    /// When it came to nothing.
    pub at: UnixMillis,
    /// The code the peer gave; 0 when it said nothing, and the node gave up.
    pub code: u32,
    /// What it said, or why it was given up.
    pub text: String,
}

/// A message that died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The log that accepted it.
    pub log: LogId,
    /// Its place there.
    pub seq: Seq,
    /// The message, its payload and trace context included.
    pub message: Message,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// When it died.
    pub died_at: UnixMillis,
    /// Why.
    pub cause: Cause,
    /// Every refusal, in order, and the attempts without an answer that the process knew of in which
    /// it died.
    pub attempts: Vec<DeadAttempt>,
    /// What went wrong, outermost first.
    pub error_chain: Vec<String>,
}
