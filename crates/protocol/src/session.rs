//! The delivery session `alys.stream.v1`: the generated frames, and their way to messages.
//!
//! Not the session itself: who sends which frame when is the business of the transport.
//!
//! Invariants:
//! - P4: credentials never appear in `Debug` output.
//! - P5: a payload is never copied or encoded again between a [`Message`] and a [`Record`].

use std::fmt;

use bytes::Bytes;

use crate::governance::InvalidPriority;
use crate::limits;
use crate::message::{
    self, InvalidId, InvalidKey, Message, MessageId, MessageKind, OrderingKey, Seq,
};
use crate::time::UnixMillis;

mod generated;

pub use generated::*;

impl From<message::Priority> for Priority {
    fn from(priority: message::Priority) -> Self {
        match priority {
            message::Priority::Low => Self::Low,
            message::Priority::Normal => Self::Normal,
            message::Priority::High => Self::High,
            message::Priority::Critical => Self::Critical,
        }
    }
}

impl TryFrom<Priority> for message::Priority {
    type Error = InvalidPriority;

    fn try_from(priority: Priority) -> Result<Self, InvalidPriority> {
        match priority {
            Priority::Unspecified => Err(InvalidPriority::Unspecified),
            Priority::Low => Ok(Self::Low),
            Priority::Normal => Ok(Self::Normal),
            Priority::High => Ok(Self::High),
            Priority::Critical => Ok(Self::Critical),
        }
    }
}

impl Priority {
    /// Reads the number of a `priority` field.
    ///
    /// # Errors
    ///
    /// When it is unspecified or unknown.
    pub fn try_from_wire(number: i32) -> Result<message::Priority, InvalidPriority> {
        Self::try_from(number).map_err(|_| InvalidPriority::Unknown(number))?.try_into()
    }
}

/// Bytes of a message id on the wire.
const MESSAGE_ID_BYTES: usize = size_of::<MessageId>();

impl Record {
    /// Bit of `flags`: the record was replayed from a dead letter.
    pub const FLAG_REPLAYED: u32 = 1;

    /// The record of a message at its place in the log. Shares the payload.
    #[must_use]
    pub fn from_message(seq: Seq, message: &Message) -> Self {
        Self::with_id(seq, message, Bytes::copy_from_slice(message.id.as_bytes()))
    }

    /// The records of several messages, as [`Record::from_message`] makes each of them; their ids
    /// share one allocation.
    pub fn from_messages<'a>(
        messages: impl IntoIterator<Item = (Seq, &'a Message), IntoIter: Clone>,
    ) -> impl Iterator<Item = Self> {
        let messages = messages.into_iter();
        let mut ids = Vec::with_capacity(messages.size_hint().0 * MESSAGE_ID_BYTES);
        for (_, message) in messages.clone() {
            ids.extend_from_slice(message.id.as_bytes());
        }
        let mut ids = Bytes::from(ids);
        messages.map(move |(seq, message)| {
            Self::with_id(seq, message, ids.split_to(MESSAGE_ID_BYTES.min(ids.len())))
        })
    }

    fn with_id(seq: Seq, message: &Message, message_id: Bytes) -> Self {
        Self {
            seq: seq.0,
            message_id,
            kind: message.kind.0,
            priority: Priority::from(message.priority).into(),
            flags: 0,
            deadline_ms: UnixMillis::to_wire(message.deadline),
            ordering_key: message
                .ordering_key
                .as_ref()
                .map_or_else(Bytes::new, |key| key.as_bytes().clone()),
            traceparent: message.traceparent.clone().unwrap_or_default(),
            payload: message.payload.clone(),
        }
    }

    /// The message of a record that came off a wire, with its place. Shares the payload.
    ///
    /// # Errors
    ///
    /// When a field is out of its bounds; see [`InvalidRecord`].
    pub fn try_into_message(self) -> Result<(Seq, Message), InvalidRecord> {
        if self.payload.len() > limits::MESSAGE_BYTES_MAX {
            return Err(InvalidRecord::Payload { bytes: self.payload.len() });
        }
        if self.traceparent.len() > limits::TRACEPARENT_BYTES_MAX {
            return Err(InvalidRecord::Traceparent { bytes: self.traceparent.len() });
        }
        if self.deadline_ms < 0 {
            return Err(InvalidRecord::Deadline(self.deadline_ms));
        }
        let ordering_key = match self.ordering_key {
            key if key.is_empty() => None,
            key => Some(OrderingKey::try_new(key).map_err(InvalidRecord::OrderingKey)?),
        };
        let message = Message {
            id: MessageId::try_from_slice(&self.message_id).map_err(InvalidRecord::MessageId)?,
            kind: MessageKind(self.kind),
            priority: Priority::try_from_wire(self.priority).map_err(InvalidRecord::Priority)?,
            deadline: UnixMillis::from_wire(self.deadline_ms),
            ordering_key,
            traceparent: Some(self.traceparent).filter(|text| !text.is_empty()),
            payload: self.payload,
        };
        Ok((Seq(self.seq), message))
    }
}

/// A record that a peer may not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Its message id is not 16 bytes.
    #[error("message id unreadable")]
    MessageId(#[source] InvalidId),
    /// Its priority is unspecified or unknown.
    #[error("priority unusable")]
    Priority(#[source] InvalidPriority),
    /// Its ordering key is too long.
    #[error("ordering key unusable")]
    OrderingKey(#[source] InvalidKey),
    /// Its trace context is too long.
    #[error("a traceparent has at most {} bytes, not {bytes}", limits::TRACEPARENT_BYTES_MAX)]
    Traceparent {
        /// How many bytes it had.
        bytes: usize,
    },
    /// Its deadline is before the epoch.
    #[error("a deadline is not negative: {0} ms")]
    Deadline(i64),
    /// Its payload is too large.
    #[error("a payload has at most {} bytes, not {bytes}", limits::MESSAGE_BYTES_MAX)]
    Payload {
        /// How many bytes it had.
        bytes: usize,
    },
}

impl From<frame::Kind> for Frame {
    fn from(kind: frame::Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl frame::Kind {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Refuse(_) => "refuse",
            Self::Data(_) => "data",
            Self::Ack(_) => "ack",
            Self::Nack(_) => "nack",
            Self::Credit(_) => "credit",
            Self::Heartbeat(_) => "heartbeat",
            Self::HeartbeatAck(_) => "heartbeat_ack",
            Self::AuthRefresh(_) => "auth_refresh",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::Drain(_) => "drain",
            Self::Gap(_) => "gap",
            Self::Chunk(_) => "chunk",
        }
    }
}

impl fmt::Debug for AuthProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthProof")
            .field("scheme", &self.scheme)
            .field("credential", &"[redacted]")
            .field("expires_at_ms", &self.expires_at_ms)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            id: MessageId::new([7; 16]),
            kind: MessageKind::PEGIN_NOTIFICATION,
            priority: message::Priority::Critical,
            deadline: Some(UnixMillis(1_700_000_000_123)),
            ordering_key: Some(OrderingKey::try_new("peg".as_bytes().to_vec()).unwrap()),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            payload: Bytes::from(vec![1; 1000]),
        }
    }

    #[test]
    fn a_message_survives_the_way_through_a_record_without_a_copy() {
        let plain = Message {
            deadline: None,
            ordering_key: None,
            traceparent: None,
            priority: message::Priority::Low,
            ..message()
        };
        for message in [message(), plain] {
            let record = Record::from_message(Seq(9), &message);
            assert_eq!(record.payload.as_ptr(), message.payload.as_ptr(), "P5");
            let (seq, back) = record.try_into_message().unwrap();
            assert_eq!(back.payload.as_ptr(), message.payload.as_ptr(), "P5");
            assert_eq!((seq, back), (Seq(9), message));
        }
    }

    #[test]
    fn records_that_are_made_together_are_those_that_are_made_one_by_one() {
        let messages: Vec<Message> =
            (0..5).map(|n| Message { id: MessageId::new([n; 16]), ..message() }).collect();
        let numbered = || messages.iter().enumerate().map(|(n, it)| (Seq(n as u64 + 1), it));
        let together: Vec<Record> = Record::from_messages(numbered()).collect();
        let alone: Vec<Record> =
            numbered().map(|(seq, message)| Record::from_message(seq, message)).collect();
        assert_eq!(together, alone);
        assert_eq!(Record::from_messages([]).count(), 0);
    }

    #[test]
    fn a_record_out_of_bounds_is_refused_with_its_reason() {
        let check = |spoil: fn(&mut Record), expected: InvalidRecord| {
            let mut record = Record::from_message(Seq(1), &message());
            spoil(&mut record);
            assert_eq!(record.try_into_message(), Err(expected));
        };
        check(
            |r| r.message_id = Bytes::from_static(&[1; 15]),
            InvalidRecord::MessageId(InvalidId::Length(15)),
        );
        check(|r| r.priority = 0, InvalidRecord::Priority(InvalidPriority::Unspecified));
        check(|r| r.priority = 5, InvalidRecord::Priority(InvalidPriority::Unknown(5)));
        check(|r| r.priority = -1, InvalidRecord::Priority(InvalidPriority::Unknown(-1)));
        check(
            |r| r.ordering_key = Bytes::from(vec![0; limits::ORDERING_KEY_BYTES_MAX + 1]),
            InvalidRecord::OrderingKey(InvalidKey { bytes: limits::ORDERING_KEY_BYTES_MAX + 1 }),
        );
        check(
            |r| r.traceparent = "0".repeat(limits::TRACEPARENT_BYTES_MAX + 1),
            InvalidRecord::Traceparent { bytes: limits::TRACEPARENT_BYTES_MAX + 1 },
        );
        check(|r| r.deadline_ms = -1, InvalidRecord::Deadline(-1));
        check(
            |r| r.payload = Bytes::from(vec![0; limits::MESSAGE_BYTES_MAX + 1]),
            InvalidRecord::Payload { bytes: limits::MESSAGE_BYTES_MAX + 1 },
        );
    }

    #[test]
    fn priorities_map_by_number() {
        for priority in message::Priority::ALL {
            let wire = Priority::from(priority);
            assert_eq!(wire as usize, priority.index() + 1);
            assert_eq!(Priority::try_from_wire(wire.into()), Ok(priority));
        }
    }

    #[test]
    fn a_credential_is_not_shown() {
        let refresh = AuthRefresh {
            auth: Some(AuthProof {
                credential: Bytes::from_static(b"hunter2"),
                ..AuthProof::default()
            }),
        };
        let shown = format!("{:?}", Frame::from(frame::Kind::AuthRefresh(refresh)));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
