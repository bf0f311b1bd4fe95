//! What an application hands over, and the identities that go with it.
//!
//! Not the wire: [`crate::governance`] and [`crate::session`] hold the generated messages.
//!
//! Invariants:
//! - P1: a [`Seq`] of a logged message is at least 1 and is never reused within one log.
//! - P2: a [`MessageId`] is the idempotency key across governance nodes; it survives replay.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::limits;
use crate::time::UnixMillis;

mod mint;

/// Identifies a message across every governance node: 16 bytes, a version 7 UUID when minted here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// Wraps 16 bytes that a caller chose.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Mints a new one: a version 7 UUID (RFC 9562), so that identifiers sort by time.
    #[must_use]
    pub fn mint() -> Self {
        Self(mint::uuid().into_bytes())
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 16 bytes off a wire.
    ///
    /// # Errors
    ///
    /// When `bytes` are not exactly 16.
    pub fn try_from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
        <[u8; 16]>::try_from(bytes).map(Self).map_err(|_| InvalidId::Length(bytes.len()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        uuid::Uuid::parse_str(text).map(|id| Self(id.into_bytes())).map_err(|_| InvalidId::Text)
    }
}

/// An identifier that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not 16 bytes.
    #[error("an identifier is 16 bytes, not {0}")]
    Length(usize),
    /// Not a UUID in text form.
    #[error("not a UUID (expected 8-4-4-4-12 hexadecimal digits)")]
    Text,
}

/// Identifies one log: random 128 bits, minted when the log is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId([u8; 16]);

impl LogId {
    /// Wraps 16 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 16 bytes off a wire or a disk.
    ///
    /// # Errors
    ///
    /// When `bytes` are not exactly 16.
    pub fn try_from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
        <[u8; 16]>::try_from(bytes).map(Self).map_err(|_| InvalidId::Length(bytes.len()))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The place of a message in one log: dense, from 1, given when it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The first one of every log.
    pub const FIRST: Self = Self(1);

    /// No place in any log: messages of the memory class, which are neither stored nor
    /// acknowledged.
    pub const VOLATILE: Self = Self(0);

    /// Whether it is no place in any log.
    #[must_use]
    pub const fn is_volatile(self) -> bool {
        self.0 == Self::VOLATILE.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a log was opened; the higher one of two processes with one log wins (D12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A random number of one opening of a log: it tells the epoch from the same one of a copy (D12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochNonce(pub u64);

impl EpochNonce {
    /// Of an opening of which it is not known.
    pub const UNKNOWN: Self = Self(0);

    /// Whether it says anything.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != Self::UNKNOWN.0
    }
}

/// One opening of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    /// Its epoch; 0 for none.
    pub epoch: Epoch,
    /// What tells it from another opening with the same epoch.
    pub nonce: EpochNonce,
}

impl Opening {
    /// Of a log that was never seen.
    pub const NONE: Self = Self { epoch: Epoch(0), nonce: EpochNonce::UNKNOWN };
}

impl From<Epoch> for Opening {
    /// An opening of which the epoch alone is known.
    fn from(epoch: Epoch) -> Self {
        Self { epoch, nonce: EpochNonce::UNKNOWN }
    }
}

/// How far a log is settled, on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settled {
    /// Everything below it is settled or dead.
    pub below: Seq,
    /// How many messages are settled or dead, above [`Settled::below`] too; 0 when that is not known.
    /// It only grows: a log of which somebody was told more is an old copy of another (D12).
    pub count: u64,
}

impl Settled {
    /// Of a log with nothing in it.
    pub const NONE: Self = Self::known_below(Seq::FIRST);

    /// Of a log of which it is not known how many messages are settled.
    #[must_use]
    pub const fn known_below(below: Seq) -> Self {
        Self { below, count: 0 }
    }
}

/// The last that a receiver was told of a log, and forgot something for it (D3, D12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Forgotten {
    /// The opening of the log in which it was told.
    pub opening: Opening,
    /// How many messages were settled then; 0 when it was not told.
    pub settled_count: u64,
}

impl Forgotten {
    /// Nothing was forgotten yet.
    pub const NONE: Self = Self { opening: Opening::NONE, settled_count: 0 };
}

/// How urgent a message is. The order is the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Bulk: whatever may wait.
    Low,
    /// Everything that says nothing else.
    #[default]
    Normal,
    /// Ahead of ordinary traffic.
    High,
    /// Ahead of everything; never evicted.
    Critical,
}

impl Priority {
    /// All of them, most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// 0 for `Low` to 3 for `Critical`.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
            Self::Critical => 3,
        }
    }

    /// The reverse of [`Priority::index`].
    #[must_use]
    pub const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Low),
            1 => Some(Self::Normal),
            2 => Some(Self::High),
            3 => Some(Self::Critical),
            _ => None,
        }
    }

    /// The word used in configuration, metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a payload is.
///
/// Towards governance the number is the field of `StreamRequest.payload`; from governance it is
/// 100 plus the field of `StreamResponse.payload`; applications use 1000 and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKind(pub u32);

impl MessageKind {
    /// `StreamRequest.node_registration`.
    pub const NODE_REGISTRATION: Self = Self(10);
    /// `StreamRequest.signature_request`.
    pub const SIGNATURE_REQUEST: Self = Self(20);
    /// `StreamRequest.pegin_notification`.
    pub const PEGIN_NOTIFICATION: Self = Self(30);
    /// `StreamRequest.status_update`.
    pub const STATUS_UPDATE: Self = Self(40);
    /// `StreamRequest.heartbeat`.
    pub const HEARTBEAT: Self = Self(50);
    /// `StreamResponse` without a payload: a bare acknowledgement.
    pub const ACKNOWLEDGEMENT: Self = Self(100);
    /// `StreamResponse.registration_ack`.
    pub const REGISTRATION_ACK: Self = Self(110);
    /// `StreamResponse.signature_response`.
    pub const SIGNATURE_RESPONSE: Self = Self(120);
    /// `StreamResponse.federation_update`.
    pub const FEDERATION_UPDATE: Self = Self(130);
    /// `StreamResponse.proposal_notification`.
    pub const PROPOSAL_NOTIFICATION: Self = Self(140);
    /// `StreamResponse.error_response`.
    pub const ERROR_RESPONSE: Self = Self(150);
    /// `StreamResponse.heartbeat_ack`.
    pub const HEARTBEAT_ACK: Self = Self(160);

    /// Whether an application defined it.
    #[must_use]
    pub const fn is_application(self) -> bool {
        self.0 >= limits::APPLICATION_KIND_MIN
    }

    /// The kinds that have a word of their own.
    const NAMED: [(Self, &'static str); 12] = [
        (Self::NODE_REGISTRATION, "node_registration"),
        (Self::SIGNATURE_REQUEST, "signature_request"),
        (Self::PEGIN_NOTIFICATION, "pegin_notification"),
        (Self::STATUS_UPDATE, "status_update"),
        (Self::HEARTBEAT, "heartbeat"),
        (Self::ACKNOWLEDGEMENT, "acknowledgement"),
        (Self::REGISTRATION_ACK, "registration_ack"),
        (Self::SIGNATURE_RESPONSE, "signature_response"),
        (Self::FEDERATION_UPDATE, "federation_update"),
        (Self::PROPOSAL_NOTIFICATION, "proposal_notification"),
        (Self::ERROR_RESPONSE, "error_response"),
        (Self::HEARTBEAT_ACK, "heartbeat_ack"),
    ];

    const APPLICATION: &'static str = "application";

    const UNKNOWN: &'static str = "unknown";

    /// The word used in metrics and output; one word for all application kinds, so that labels
    /// stay bounded.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        let mut at = 0;
        while at < Self::NAMED.len() {
            let (kind, name) = Self::NAMED[at];
            if kind.0 == self.0 {
                return name;
            }
            at += 1;
        }
        if self.is_application() { Self::APPLICATION } else { Self::UNKNOWN }
    }

    /// Every word that [`Self::as_str`] has.
    pub fn words() -> impl Iterator<Item = &'static str> {
        let named = Self::NAMED.iter().map(|(_, name)| *name);
        named.chain([Self::APPLICATION, Self::UNKNOWN])
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.0)
    }
}

/// Messages with the same key and priority reach a governance node in the order they were
/// accepted (D4). At most [`limits::ORDERING_KEY_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey(Bytes);

impl OrderingKey {
    /// Wraps the bytes of a key.
    ///
    /// # Errors
    ///
    /// When the key is empty or longer than [`limits::ORDERING_KEY_BYTES_MAX`].
    pub fn try_new(bytes: impl Into<Bytes>) -> Result<Self, InvalidKey> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > limits::ORDERING_KEY_BYTES_MAX {
            return Err(InvalidKey { bytes: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// An ordering key of a forbidden length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an ordering key has 1 to {} bytes, not {bytes}", limits::ORDERING_KEY_BYTES_MAX)]
pub struct InvalidKey {
    /// How many bytes it had.
    pub bytes: usize,
}

/// A message as an application hands it over, its payload already encoded.
///
/// For kinds of `governance.v1` the payload is an encoded `StreamRequest` (towards governance) or
/// `StreamResponse` (from governance) whose `metadata.request_id` is the message id as text: those
/// bytes go to the wire as they are, in either dialect.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Identifies it across governance nodes.
    pub id: MessageId,
    /// What the payload is.
    pub kind: MessageKind,
    /// How urgent it is.
    pub priority: Priority,
    /// After it the message is not sent any more (D6).
    pub deadline: Option<UnixMillis>,
    /// Keeps messages in order (D4).
    pub ordering_key: Option<OrderingKey>,
    /// W3C `traceparent`, so that a trace survives the buffer.
    pub traceparent: Option<String>,
    /// The encoded bytes.
    pub payload: Bytes,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may carry credentials: their length is all that is shown.
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("priority", &self.priority)
            .field("deadline", &self.deadline)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
