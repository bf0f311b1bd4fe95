//! What goes through the mailbox of the StreamActor: control, and what actors ask that prefer a
//! mailbox to a [`crate::StreamHandle`]. Payloads ride in asks only, each with its permit.

use alys_stream_messaging::outbox::EndpointId;

use crate::neighbours::StreamAsk;

/// What a StreamActor is told.
#[derive(Debug)]
pub(crate) enum StreamMessage {
    /// A driver of the delivery ended; it never should.
    DriverEnded(String),
    /// The backoff of a connection is over.
    Start(EndpointId),
    /// A neighbour wants something.
    Ask(StreamAsk),
}

impl StreamMessage {
    /// In one word.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::DriverEnded(_) => "driver_ended",
            Self::Start(_) => "start",
            Self::Ask(ask) => ask.as_str(),
        }
    }
}
