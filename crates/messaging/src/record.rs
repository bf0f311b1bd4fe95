//! A message as it lies in a log: the payload of a log entry.
//!
//! Little endian; the sequence number is the key of the entry.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 16 | message id |
//! | 16 | 8 | accepted at, milliseconds since the Unix epoch |
//! | 24 | 8 | deadline, milliseconds since the Unix epoch; 0 without flag 1 |
//! | 32 | 4 | kind |
//! | 36 | 2 | bytes of the ordering key (0: none) |
//! | 38 | 2 | bytes of the traceparent (0: none) |
//! | 40 | 1 | priority: 0 low to 3 critical |
//! | 41 | 1 | flags: 1 has a deadline, 2 replayed from a dead letter |
//! | 42 | 2 | zero |
//! | 44 | … | ordering key, traceparent, with flag 2 the seq that it died under (8), payload |

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Message, MessageId, MessageKind, OrderingKey, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

const FIXED_BYTES: usize = 44;
const FLAG_DEADLINE: u8 = 1;
const FLAG_REPLAYED: u8 = 2;
const FLAGS_AT: usize = 41;

/// Bytes that a replayed record has more.
pub(crate) const REPLAYED_BYTES: usize = 8;

/// What is known of a record without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMeta {
    /// Its place in the log.
    pub seq: Seq,
    /// Identifies the message across governance nodes.
    pub id: MessageId,
    /// What the payload is.
    pub kind: MessageKind,
    /// How urgent it is.
    pub priority: Priority,
    /// After it the message is not sent any more.
    pub deadline: Option<UnixMillis>,
    /// Keeps messages in order.
    pub ordering_key: Option<OrderingKey>,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
}

impl RecordMeta {
    /// What is known of `message` once it has a place.
    #[must_use]
    pub fn new(seq: Seq, accepted_at: UnixMillis, message: &Message) -> Self {
        Self {
            seq,
            id: message.id,
            kind: message.kind,
            priority: message.priority,
            deadline: message.deadline,
            ordering_key: message.ordering_key.clone(),
            payload_bytes: u32::try_from(message.payload.len()).unwrap_or(u32::MAX),
            accepted_at,
        }
    }
}

/// Bytes that a message takes as the payload of an entry.
pub(crate) fn encoded_bytes(message: &Message) -> usize {
    let key = message.ordering_key.as_ref().map_or(0, |key| key.as_bytes().len());
    let trace = message.traceparent.as_ref().map_or(0, String::len);
    FIXED_BYTES + key + trace + message.payload.len()
}

/// Whether every part of a message has a length that the format holds.
pub(crate) fn is_encodable(message: &Message) -> bool {
    message.payload.len() <= limits::MESSAGE_BYTES_MAX
        && message
            .traceparent
            .as_ref()
            .is_none_or(|trace| trace.len() <= limits::TRACEPARENT_BYTES_MAX)
}

/// Appends a message to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, accepted_at: UnixMillis, message: &Message) {
    debug_assert!(is_encodable(message), "invariant: lengths are checked before");
    let key = message.ordering_key.as_ref().map_or(&[][..], |key| key.as_bytes());
    let trace = message.traceparent.as_deref().unwrap_or_default().as_bytes();
    let priority = u8::try_from(message.priority.index()).unwrap_or(0);
    let flags = if message.deadline.is_some() { FLAG_DEADLINE } else { 0 };
    out.reserve(encoded_bytes(message));
    out.extend_from_slice(message.id.as_bytes());
    out.extend_from_slice(&accepted_at.0.to_le_bytes());
    out.extend_from_slice(&message.deadline.map_or(0, |at| at.0).to_le_bytes());
    out.extend_from_slice(&message.kind.0.to_le_bytes());
    out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&u16::try_from(trace.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&[priority, flags, 0, 0]);
    out.extend_from_slice(key);
    out.extend_from_slice(trace);
    out.extend_from_slice(&message.payload);
}

/// Appends a message that is accepted again, and the place under which it died; 0 when that was in
/// another log.
pub(crate) fn encode_replayed(
    out: &mut Vec<u8>,
    accepted_at: UnixMillis,
    message: &Message,
    replayed_from: Seq,
) {
    let start = out.len();
    encode(out, accepted_at, &Message { payload: Bytes::new(), ..message.clone() });
    if let Some(flags) = out.get_mut(start + FLAGS_AT) {
        *flags |= FLAG_REPLAYED;
    }
    out.extend_from_slice(&replayed_from.0.to_le_bytes());
    out.extend_from_slice(&message.payload);
}

/// The place under which a replayed record died; `None` for every other record.
pub(crate) fn replayed_from(bytes: &[u8]) -> Option<Seq> {
    let fixed = Fixed::read(bytes)?;
    if fixed.replayed_bytes == 0 {
        return None;
    }
    let mut reader = ByteReader::new(bytes.get(fixed.trace_end()..)?);
    reader.u64().map(Seq)
}

/// Reads what is known of a record without copying its payload. `None` when the bytes are not a
/// record, which a verified entry of this format never is.
pub(crate) fn decode_meta(seq: Seq, bytes: &[u8]) -> Option<RecordMeta> {
    let fixed = Fixed::read(bytes)?;
    let key = bytes.get(FIXED_BYTES..FIXED_BYTES + fixed.key_bytes)?;
    let ordering_key = if key.is_empty() {
        None
    } else {
        Some(OrderingKey::try_new(Bytes::copy_from_slice(key)).ok()?)
    };
    Some(RecordMeta {
        seq,
        id: fixed.id,
        kind: fixed.kind,
        priority: fixed.priority,
        deadline: fixed.deadline,
        ordering_key,
        payload_bytes: u32::try_from(bytes.len().checked_sub(fixed.payload_offset())?).ok()?,
        accepted_at: fixed.accepted_at,
    })
}

/// Reads a message; its payload shares `bytes`.
pub(crate) fn decode(bytes: &Bytes) -> Option<Message> {
    let fixed = Fixed::read(bytes)?;
    if bytes.len() < fixed.payload_offset() {
        return None;
    }
    let key_end = FIXED_BYTES + fixed.key_bytes;
    let key = bytes.slice(FIXED_BYTES..key_end);
    let trace = bytes.get(key_end..fixed.trace_end())?;
    Some(Message {
        id: fixed.id,
        kind: fixed.kind,
        priority: fixed.priority,
        deadline: fixed.deadline,
        ordering_key: if key.is_empty() { None } else { Some(OrderingKey::try_new(key).ok()?) },
        traceparent: if trace.is_empty() {
            None
        } else {
            Some(String::from_utf8(trace.to_vec()).ok()?)
        },
        payload: bytes.slice(fixed.payload_offset()..),
    })
}

/// What recovery needs to know of a record; reading it allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brief {
    pub(crate) id: MessageId,
    pub(crate) accepted_at: UnixMillis,
    pub(crate) deadline: Option<UnixMillis>,
    pub(crate) priority: Priority,
    pub(crate) is_replayed: bool,
}

impl Brief {
    /// `None` whenever [`decode_meta`] says so.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let fixed = Fixed::read(bytes)?;
        let Fixed { id, accepted_at, deadline, priority, .. } = fixed;
        let is_replayed = fixed.replayed_bytes > 0;
        let this = Self { id, accepted_at, deadline, priority, is_replayed };
        (fixed.key_bytes <= limits::ORDERING_KEY_BYTES_MAX).then_some(this)
    }
}

struct Fixed {
    id: MessageId,
    accepted_at: UnixMillis,
    deadline: Option<UnixMillis>,
    kind: MessageKind,
    key_bytes: usize,
    trace_bytes: usize,
    replayed_bytes: usize,
    priority: Priority,
}

impl Fixed {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(bytes);
        let id = MessageId::new(reader.array()?);
        let accepted_at = UnixMillis(reader.u64()?);
        let deadline = UnixMillis(reader.u64()?);
        let kind = MessageKind(reader.u32()?);
        let key_bytes = usize::from(reader.u16()?);
        let trace_bytes = usize::from(reader.u16()?);
        let priority = Priority::from_index(reader.u8()?)?;
        let flags = reader.u8()?;
        let deadline = (flags & FLAG_DEADLINE != 0).then_some(deadline);
        let replayed_bytes = if flags & FLAG_REPLAYED == 0 { 0 } else { REPLAYED_BYTES };
        let this = Self {
            id,
            accepted_at,
            deadline,
            kind,
            key_bytes,
            trace_bytes,
            replayed_bytes,
            priority,
        };
        (bytes.len() >= this.payload_offset()).then_some(this)
    }

    const fn trace_end(&self) -> usize {
        FIXED_BYTES + self.key_bytes + self.trace_bytes
    }

    const fn payload_offset(&self) -> usize {
        self.trace_end() + self.replayed_bytes
    }
}

/// Reads little-endian fields one behind the other; `None` when the bytes end.
#[derive(Debug)]
pub(crate) struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ByteReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.at
    }

    pub(crate) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let slice = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(slice)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Text behind its length in two bytes.
    pub(crate) fn text(&mut self) -> Option<String> {
        let length = usize::from(self.u16()?);
        String::from_utf8(self.slice(length)?.to_vec()).ok()
    }

    /// A set of sequence numbers: how many ranges, then first and last of each.
    pub(crate) fn seq_set(&mut self) -> Option<alys_stream_protocol::seq_set::SeqSet> {
        let mut set = alys_stream_protocol::seq_set::SeqSet::new();
        for _ in 0..self.u32()? {
            let (first, last) = (self.u64()?, self.u64()?);
            if first > last {
                return None;
            }
            set.insert_range(Seq(first)..=Seq(last));
        }
        Some(set)
    }
}

/// Writes text behind its length in two bytes; cut to `bytes_max` at a character boundary.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let end = text.floor_char_boundary(bytes_max.min(usize::from(u16::MAX)));
    let cut = text.get(..end).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(cut.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(cut.as_bytes());
}

/// The reverse of [`ByteReader::seq_set`].
pub(crate) fn put_seq_set(out: &mut Vec<u8>, set: &alys_stream_protocol::seq_set::SeqSet) {
    let count = u32::try_from(set.interval_count()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for range in set.ranges() {
        out.extend_from_slice(&range.start().0.to_le_bytes());
        out.extend_from_slice(&range.end().0.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(key: Option<Vec<u8>>, trace: Option<String>, payload: Vec<u8>) -> Message {
        Message {
            id: MessageId::new([7; 16]),
            kind: MessageKind(20),
            priority: Priority::High,
            deadline: Some(UnixMillis(9)),
            ordering_key: key.map(|key| OrderingKey::try_new(key).unwrap()),
            traceparent: trace,
            payload: payload.into(),
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
            trace in prop::option::of("[0-9a-f-]{1,55}"),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let message = message(key, trace, payload);
            let mut bytes = Vec::new();
            encode(&mut bytes, UnixMillis(5), &message);
            prop_assert_eq!(bytes.len(), encoded_bytes(&message));
            prop_assert_eq!(
                decode_meta(Seq(3), &bytes),
                Some(RecordMeta::new(Seq(3), UnixMillis(5), &message))
            );
            prop_assert_eq!(replayed_from(&bytes), None);
            prop_assert_eq!(decode(&Bytes::from(bytes)), Some(message));
        }

        #[test]
        fn a_replayed_record_says_where_it_died(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
            trace in prop::option::of("[0-9a-f-]{1,55}"),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let message = message(key, trace, payload);
            let mut bytes = Vec::new();
            encode_replayed(&mut bytes, UnixMillis(5), &message, Seq(8));
            prop_assert_eq!(bytes.len(), encoded_bytes(&message) + REPLAYED_BYTES);
            prop_assert_eq!(replayed_from(&bytes), Some(Seq(8)));
            prop_assert_eq!(
                decode_meta(Seq(3), &bytes),
                Some(RecordMeta::new(Seq(3), UnixMillis(5), &message))
            );
            prop_assert_eq!(decode(&Bytes::from(bytes)), Some(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(decode_meta(Seq(1), &bytes).is_some(), Brief::read(&bytes).is_some());
            drop(decode(&Bytes::from(bytes)));
        }
    }
}
